# What `cmake --install` leaves of the client: headers, liboteld.so and .a, the CMake package, oteld.pc.
#
# A program refers to the client by one weak symbol, which by itself pulls in neither a member of an archive nor a
# library under --as-needed: the program would link, and silently record nothing. So the targets and oteld.pc carry
# the flags that turn recording on.
#   oteld::api            headers only
#   oteld::client         the shared library, kept even if the linker sees no need for it
#   oteld::client_static  the archive, with its one entry point asked for by name
#   oteld::opentelemetry  oteld::client for programs that are instrumented with opentelemetry-cpp, where that is found
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(oteld_api PROPERTIES EXPORT_NAME api)
set_target_properties(oteld_client_static PROPERTIES EXPORT_NAME client_static)
set_target_properties(oteld_client_shared PROPERTIES EXPORT_NAME client_library)

# One item, so that CMake neither reorders nor merges the flags; the library itself once more for its directory,
# its headers and the order of the build.
add_library(oteld_client INTERFACE)
add_library(oteld::client ALIAS oteld_client)
add_library(oteld::client_static ALIAS oteld_client_static)
set_target_properties(oteld_client PROPERTIES EXPORT_NAME client)
target_link_libraries(oteld_client INTERFACE oteld_api
  "-Wl,--push-state,--no-as-needed \"$<TARGET_FILE:$<TARGET_NAME:oteld_client_shared>>\" -Wl,--pop-state"
  oteld_client_shared)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/oteld)
install(TARGETS oteld_api oteld_client oteld_client_shared oteld_client_static EXPORT oteld-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/oteld DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT oteld-targets NAMESPACE oteld:: DESTINATION ${package_dir})
write_basic_package_version_file(oteld-config-version.cmake COMPATIBILITY SameMinorVersion)
include(${CMAKE_CURRENT_LIST_DIR}/opentelemetry.cmake)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/oteld-config.cmake ${CMAKE_CURRENT_LIST_DIR}/opentelemetry.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/oteld-config-version.cmake DESTINATION ${package_dir})

# The way from oteld.pc back to the prefix, so that an installed tree may be moved.
file(RELATIVE_PATH pc_to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${CMAKE_CURRENT_LIST_DIR}/oteld.pc.in oteld.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/oteld.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
