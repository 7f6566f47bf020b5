# What our own code is compiled with; generated code is not (see proto/).
add_library(ratelimiter_warnings INTERFACE)
target_compile_options(
  ratelimiter_warnings
  INTERFACE -Wall
            -Wextra
            -Wpedantic
            -Wshadow
            -Wconversion
            -Wsign-conversion
            -Wnon-virtual-dtor
            -Wold-style-cast
            -Woverloaded-virtual
            -Werror)
