# RATELIMITER_SANITIZE: a list as -fsanitize= takes it; empty for none. It holds
# for every target, generated code included, for half-instrumented programs
# report what is not there.
set(RATELIMITER_SANITIZE "" CACHE STRING "Sanitizers, such as address,undefined or thread")
# Newer releases of Abseil lay their hash tables out differently under the address
# sanitizer, which the packaged library is not built with.
if(RATELIMITER_SANITIZE MATCHES "address" AND absl_VERSION VERSION_GREATER 20220623)
  string(REGEX REPLACE ",?address" "" RATELIMITER_SANITIZE "${RATELIMITER_SANITIZE}")
  message(WARNING "This Abseil (${absl_VERSION}) does without the address sanitizer")
endif()
if(RATELIMITER_SANITIZE)
  add_compile_options(-fsanitize=${RATELIMITER_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${RATELIMITER_SANITIZE})
endif()
