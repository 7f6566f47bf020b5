#!/bin/sh
# Writes the man page of the rlctl at $1 to $2: help2man's page of its help, followed by the
# help of each command.
set -e

commands_of() {
  "$@" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

tell() {
  echo ".SS $*"
  printf '.nf\n'
  "$rlctl" "$@" --help | sed -e '/^Exit codes:/,$d' -e 's/\\/\\e/g; s/^[.'\'']/\\\&&/; s/-/\\-/g'
  printf '.fi\n'
}

rlctl=$1
{
  echo '[commands]'
  for command in $(commands_of "$rlctl"); do
    nested=$(commands_of "$rlctl" "$command")
    if [ -z "$nested" ]; then
      tell "$command"
    else
      for name in $nested; do tell "$command" "$name"; done
    fi
  done
} >"$2.include"
help2man --no-info --name='ask a rate limiter, and tend it' --include="$2.include" \
  --output="$2" "$rlctl"
