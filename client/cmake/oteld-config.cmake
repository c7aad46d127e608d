# find_package(oteld): oteld::api, oteld::client (shared), oteld::client_static. For programs that are instrumented with
# opentelemetry-cpp also oteld::opentelemetry, if that is found before, or by find_package(oteld COMPONENTS opentelemetry).
include(CMakeFindDependencyMacro)
include(${CMAKE_CURRENT_LIST_DIR}/oteld-targets.cmake)
if("opentelemetry" IN_LIST oteld_FIND_COMPONENTS)
  find_dependency(opentelemetry-cpp CONFIG)
endif()
include(${CMAKE_CURRENT_LIST_DIR}/opentelemetry.cmake)
# A project of C alone has a linker that does not know what an archive of C++ needs.
get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
if(NOT "CXX" IN_LIST languages)
  set_property(TARGET oteld::client_static APPEND PROPERTY INTERFACE_LINK_LIBRARIES stdc++ m)
endif()
