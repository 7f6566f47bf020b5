# All libraries come from the distribution's packages (./dev lists them).
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
# hiredis 0.14 (Debian 12) has no CMake package, 1.2 has: pkg-config serves both.
pkg_check_modules(hiredis REQUIRED IMPORTED_TARGET hiredis)
# The CMake packages of yaml-cpp 0.7 and 0.8 name its target differently.
pkg_check_modules(yaml-cpp REQUIRED IMPORTED_TARGET yaml-cpp)
pkg_check_modules(systemd REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)
# Debian 13's calls OpenSSL from its header.
find_package(OpenSSL REQUIRED)
target_link_libraries(PkgConfig::httplib INTERFACE OpenSSL::Crypto)
