# ratelimiter_module(<name> USES <libraries> [PRIVATE <libraries>] SOURCES <files>)
#
# One module: the library ratelimiter_<name> with the alias ratelimiter::<name>,
# from src/<name>/ (SOURCES) and every header in include/ratelimiter/<name>/.
function(ratelimiter_module name)
  cmake_parse_arguments(ARG "" "" "USES;PRIVATE;SOURCES" ${ARGN})
  file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/ratelimiter/${name}/*.h)
  add_library(ratelimiter_${name} STATIC ${ARG_SOURCES})
  add_library(ratelimiter::${name} ALIAS ratelimiter_${name})
  target_sources(
    ratelimiter_${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES
                               ${headers})
  target_link_libraries(
    ratelimiter_${name}
    PUBLIC ${ARG_USES}
    PRIVATE ratelimiter_warnings ${ARG_PRIVATE})

  # CMake verifies only headers that others may include: those beside the sources
  # are given to a library that is nothing else.
  file(GLOB private_headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h)
  if(private_headers)
    add_library(ratelimiter_${name}_private INTERFACE)
    target_sources(
      ratelimiter_${name}_private INTERFACE FILE_SET HEADERS BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}
                                            FILES ${private_headers})
    target_link_libraries(ratelimiter_${name}_private INTERFACE ratelimiter_${name} ${ARG_PRIVATE})
  endif()
endfunction()
