# Other people's programs for unit_client's programs_test.cpp: a C program, a library without a client, its hosts.
add_executable(client_c_api programs/client_c_api.c)
set_target_properties(client_c_api PROPERTIES LINKER_LANGUAGE CXX)
target_link_libraries(client_c_api PRIVATE oteld_client_static)

add_executable(client_restricted programs/client_restricted.cpp)
set_target_properties(client_restricted PROPERTIES CXX_STANDARD 17)
target_compile_options(client_restricted PRIVATE -fno-exceptions -fno-rtti -Wpedantic -Werror)
target_link_libraries(client_restricted PRIVATE oteld_client_static)

add_library(client_library SHARED programs/client_library.cpp)
target_link_libraries(client_library PRIVATE oteld_api)
# glibc never unloads a library with unique symbols, which gcc makes of inline variables.
add_library(client_unloadable MODULE programs/client_library.cpp)
target_link_libraries(client_unloadable PRIVATE oteld_api)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  target_compile_options(client_unloadable PRIVATE -fno-gnu-unique)
endif()

add_executable(client_host programs/client_host.cpp)
add_executable(client_host_no_pie programs/client_host.cpp)
set_target_properties(client_host_no_pie PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(client_host_no_pie PRIVATE -fno-pie)
target_link_options(client_host_no_pie PRIVATE -no-pie)
foreach(host client_host client_host_no_pie)
  target_link_libraries(${host} PRIVATE oteld_api client_library)
  add_dependencies(${host} oteld_client_shared)
endforeach()

add_executable(client_plugin_host programs/client_plugin_host.cpp)
target_link_libraries(client_plugin_host PRIVATE oteld_client_static)

# A plugin with a client of its own, and a program without one that unloads it.
add_library(client_plugin MODULE programs/client_library.cpp)
set_target_properties(client_plugin PROPERTIES CXX_VISIBILITY_PRESET hidden)
target_link_libraries(client_plugin PRIVATE oteld_client_static)
add_executable(client_unload_host programs/client_unload_host.cpp)
target_link_libraries(client_unload_host PRIVATE ${CMAKE_DL_LIBS})

find_package(Threads REQUIRED)
foreach(program client_c_api client_restricted client_library client_host client_host_no_pie client_plugin_host client_plugin
        client_unloadable client_unload_host)
  target_link_libraries(${program} PRIVATE Threads::Threads)
  set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests
    LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_dependencies(unit_client ${program})
endforeach()
