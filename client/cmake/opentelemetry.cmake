# oteld::opentelemetry: oteld/opentelemetry.hpp, with the shared client. Headers only, so nothing of it depends on the
# version of opentelemetry-cpp, or of its interface, that a program is built with.
if(TARGET opentelemetry-cpp::api AND NOT TARGET oteld::opentelemetry)
  add_library(oteld::opentelemetry INTERFACE IMPORTED GLOBAL)
  target_link_libraries(oteld::opentelemetry INTERFACE oteld::client opentelemetry-cpp::api)
endif()
