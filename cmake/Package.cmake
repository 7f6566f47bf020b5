# The Debian package: `cmake --build` and then `cpack`, which ./dev package does.
include(GNUInstallDirs)
set(files ${CMAKE_BINARY_DIR}/package-files)
file(MAKE_DIRECTORY ${files})
set(debian ${PROJECT_SOURCE_DIR}/deploy/debian)

add_custom_command(
  OUTPUT ${files}/changelog.gz
  COMMAND gzip -9nc ${PROJECT_SOURCE_DIR}/CHANGELOG.md > ${files}/changelog.gz
  DEPENDS ${PROJECT_SOURCE_DIR}/CHANGELOG.md)
add_custom_command(
  OUTPUT ${files}/changelog.Debian.gz
  COMMAND gzip -9nc ${debian}/changelog > ${files}/changelog.Debian.gz
  DEPENDS ${debian}/changelog)
add_custom_command(
  OUTPUT ${files}/rlctl
  COMMAND rlctl completion bash > ${files}/rlctl
  DEPENDS rlctl)
set(package_files ${files}/changelog.gz ${files}/changelog.Debian.gz ${files}/rlctl)

# An image is built without, for it has no manual.
find_program(HELP2MAN help2man)
if(HELP2MAN)
  add_custom_command(
    OUTPUT ${files}/ratelimiterd.1.gz
    COMMAND ${HELP2MAN} --no-info --name=distributed\ rate\ limiter --output=${files}/ratelimiterd.1
            $<TARGET_FILE:ratelimiterd>
    COMMAND gzip -9nf ${files}/ratelimiterd.1
    DEPENDS ratelimiterd)
  add_custom_command(
    OUTPUT ${files}/rlctl.1.gz
    COMMAND ${debian}/rlctl-man.sh $<TARGET_FILE:rlctl> ${files}/rlctl.1
    COMMAND gzip -9nf ${files}/rlctl.1
    DEPENDS rlctl ${debian}/rlctl-man.sh)
  list(APPEND package_files ${files}/ratelimiterd.1.gz ${files}/rlctl.1.gz)
  install(FILES ${files}/ratelimiterd.1.gz ${files}/rlctl.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()
add_custom_target(package_files ALL DEPENDS ${package_files})

install(TARGETS ratelimiterd rlctl)
install(FILES ${PROJECT_SOURCE_DIR}/deploy/systemd/ratelimiterd.service
        DESTINATION /usr/lib/systemd/system)
install(FILES ${debian}/limits.yaml DESTINATION /etc/ratelimiter)
install(
  FILES ${debian}/ratelimiterd.env
  DESTINATION /etc/ratelimiter
  PERMISSIONS OWNER_READ OWNER_WRITE)
install(FILES ${files}/rlctl DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${debian}/copyright ${files}/changelog.gz ${files}/changelog.Debian.gz
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/ratelimiter)
install(
  FILES ${debian}/lintian-overrides
  DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides
  RENAME ratelimiter)

# Who packs has built before, and not what the package is without: tests.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ratelimiter)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR}/package)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "distributed rate limiter: a gRPC daemon over Redis")
set(CPACK_PACKAGE_DESCRIPTION
    "Decides, for every request of every user, whether it is allowed: a daemon with
a token bucket for each user, kept in Redis, so that any number of instances
behind a load balancer enforce one quota. With it comes rlctl, its
command-line companion.")
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "Ratelimiter maintainers <maintainers@ratelimiter.invalid>")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# The CAs by which a Redis over TLS is known.
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS redis-server)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${debian}/conffiles ${debian}/postinst ${debian}/prerm
                                       ${debian}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
