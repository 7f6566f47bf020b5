# So that a mistake with memory ends the program in place of serving an attacker: what Debian's
# own packages are compiled with (dpkg-buildflags, hardening=+all); that the programs are
# position-independent is its compilers' default. A debug build has none of it, for FORTIFY
# wants optimised code, and sanitizers find more.
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT RATELIMITER_SANITIZE)
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
                      -fstack-clash-protection)
  add_link_options(-Wl,-z,relro,-z,now)
endif()
