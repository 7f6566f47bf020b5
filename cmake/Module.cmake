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
endfunction()
