# find_package(oteld): oteld::api, oteld::client (shared), oteld::client_static.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/oteld-targets.cmake)
