# Each tests/<suite>/test_*.py is one test of ctest, named pytest_<suite>_<file>. Python is the one in .venv, which
# `./dev deps` makes. A file's cases are counted from the JUnit file that it leaves in <build>/pytest.
file(GLOB python_tests CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} */test_*.py)
if(NOT OTELD_BUILD_DAEMON)
  set(python_tests "")
endif()
foreach(file IN LISTS python_tests)
  string(REGEX REPLACE "/test_(.*)\\.py$" "_\\1" name ${file})
  add_test(NAME pytest_${name}
    COMMAND ${PROJECT_SOURCE_DIR}/.venv/bin/python -m pytest -c ${CMAKE_CURRENT_SOURCE_DIR}/pytest.ini
      --junitxml=${PROJECT_BINARY_DIR}/pytest/${name}.xml ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  set_tests_properties(pytest_${name} PROPERTIES TIMEOUT 3600 LABELS python
    ENVIRONMENT "OTELD_BUILD_DIR=${PROJECT_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
  # Kills, bursts and measurements have the machine to themselves.
  if(file MATCHES "^(chaos|bench)/")
    set_tests_properties(pytest_${name} PROPERTIES RUN_SERIAL ON)
  endif()
endforeach()
