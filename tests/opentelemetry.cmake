# The bridge for opentelemetry-cpp, under both versions of its interface. Debian 12 has no package of it: where
# find_package() has found none, nothing of this is built, and the test says so.
if(NOT TARGET opentelemetry-cpp::api)
  add_test(NAME unit_opentelemetry
    COMMAND sh -c "echo 'not run: find_package(opentelemetry-cpp) finds nothing'; exit 77")
  set_tests_properties(unit_opentelemetry PROPERTIES SKIP_RETURN_CODE 77)
  return()
endif()
add_library(unit_opentelemetry_rings OBJECT unit/client/ring_fixture.cpp unit/client/rings.cpp)
foreach(source clock duplicate_keys utf8 validate validate_body)
  target_sources(unit_opentelemetry_rings PRIVATE ${PROJECT_SOURCE_DIR}/daemon/intake/${source}.cpp)
endforeach()
target_link_libraries(unit_opentelemetry_rings PUBLIC oteld_shm oteld_client_static ${CMAKE_DL_LIBS} Threads::Threads doctest::doctest)
target_include_directories(unit_opentelemetry_rings PUBLIC ${PROJECT_SOURCE_DIR})
# Only the headers: the package's own settings are for one of the versions.
get_target_property(opentelemetry_headers opentelemetry-cpp::api INTERFACE_INCLUDE_DIRECTORIES)
function(oteld_unit_opentelemetry name)
  file(GLOB sources CONFIGURE_DEPENDS unit/opentelemetry/*.cpp)
  add_executable(${name} unit/main.cpp ${sources})
  target_compile_definitions(${name} PRIVATE ${ARGN})
  target_compile_options(${name} PRIVATE -Wconversion)
  target_include_directories(${name} SYSTEM PRIVATE ${opentelemetry_headers})
  target_link_libraries(${name} PRIVATE unit_opentelemetry_rings)
  # allocation_test.cpp counts them.
  target_link_options(${name} PRIVATE -Wl,--wrap=malloc -Wl,--wrap=realloc)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()
oteld_unit_opentelemetry(unit_opentelemetry_v1 OPENTELEMETRY_ABI_VERSION_NO=1)
set_target_properties(unit_opentelemetry_v1 PROPERTIES CXX_STANDARD 17)
# With the standard library's string_view, span and variant instead of its own.
oteld_unit_opentelemetry(unit_opentelemetry_v2 OPENTELEMETRY_ABI_VERSION_NO=2 OPENTELEMETRY_STL_VERSION=2020)
