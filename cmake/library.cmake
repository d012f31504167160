# postern_library(NAME SOURCES a.c … [LINKS other-lib …] [DOOR PkgConfig::x …])
# A folder of lib/: a static library whose headers are included as "NAME/header.h".
#   LINKS  libraries of ours that it may use; its headers may include theirs
#   DOOR   foreign libraries of which it is the only user; they do not leak to those who link it
function(postern_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS;DOOR" ${ARGN})
  foreach(source ${arg_SOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
      message(WARNING "${name}: ${source} is not there yet; the library is left out")
      return()
    endif()
  endforeach()
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/lib)
  target_include_directories(${name} INTERFACE ${CMAKE_SOURCE_DIR}/lib)
  if(NOT name STREQUAL "base")
    target_link_libraries(${name} PUBLIC base)
  endif()
  target_link_libraries(${name} PUBLIC ${arg_LINKS} PRIVATE PkgConfig::libcrypto ${arg_DOOR})
endfunction()

# postern_test(NAME SOURCES a.c … LINKS lib …): one cmocka binary, run by ctest as NAME.
function(postern_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS;DOOR" ${ARGN})
  string(REPLACE "/" "-" target test-${name})
  foreach(source ${arg_SOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
      message(WARNING "${name}: ${source} is not there yet; the test is left out")
      return()
    endif()
  endforeach()
  add_executable(${target} ${arg_SOURCES})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${target} PRIVATE testlib ${arg_LINKS} ${arg_DOOR}
                                          PkgConfig::libcrypto PkgConfig::cmocka)
  add_test(NAME ${name} COMMAND ${target})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
endfunction()

# postern_python_test(NAME FILE): a unittest file that drives programs as built. It
# finds them by POSTERN_BIN; foreign clients by POSTERN_PYTHON and NODE_PATH, which ./dev sets.
function(postern_python_test name file)
  add_test(NAME ${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
                       ENVIRONMENT "POSTERN_BIN=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
endfunction()
