# postern_library(NAME SOURCES a.c … [LINKS other-lib …] [DOOR PkgConfig::x …])
# A folder of lib/: a static library whose headers are included as "NAME/header.h".
#   LINKS  libraries of ours that it may use; its headers may include theirs
#   DOOR   foreign libraries of which it is the only user; they do not leak to those who link it
function(postern_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS;DOOR" ${ARGN})
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
  add_executable(${target} ${arg_SOURCES})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(${target} PRIVATE testlib ${arg_LINKS} ${arg_DOOR}
                                          PkgConfig::libcrypto PkgConfig::cmocka)
  add_test(NAME ${name} COMMAND ${target})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 120)
endfunction()
