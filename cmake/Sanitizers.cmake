# RATELIMITER_SANITIZE: a list as -fsanitize= takes it; empty for none. It holds
# for every target, generated code included, for half-instrumented programs
# report what is not there.
set(RATELIMITER_SANITIZE "" CACHE STRING "Sanitizers, such as address,undefined or thread")
if(RATELIMITER_SANITIZE)
  add_compile_options(-fsanitize=${RATELIMITER_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${RATELIMITER_SANITIZE})
endif()
