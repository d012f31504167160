# postern_library(NAME SOURCES a.c … [LINKS other-lib …] [DOOR PkgConfig::x …])
# A folder of lib/: a static library whose headers are included as "NAME/header.h".
#   LINKS  libraries of ours that it may use; its headers may include theirs. Static libraries do not
#          mind what they call, so cmake/links.cmake holds their #include lines to it at every build.
#   DOOR   foreign libraries of which it is the only user; they do not leak to those who link it
function(postern_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS;DOOR" ${ARGN})
  set(links ${CMAKE_CURRENT_BINARY_DIR}/${name}.links)
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(headers)
  if(name STREQUAL folder) # a second library of a folder has no headers of its own
    file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.h)
  endif()
  string(REPLACE ";" " " files "${arg_SOURCES};${headers}")
  string(REPLACE ";" " " allowed "${arg_LINKS}")
  add_custom_command(
    OUTPUT ${links}
    COMMAND ${CMAKE_COMMAND} -D LIB=${CMAKE_SOURCE_DIR}/lib -D FOLDER=${CMAKE_CURRENT_SOURCE_DIR}
            -D "FILES=${files}" -D "LINKS=${allowed}" -D STAMP=${links}
            -P ${CMAKE_SOURCE_DIR}/cmake/links.cmake
    DEPENDS ${arg_SOURCES} ${headers} ${CMAKE_SOURCE_DIR}/cmake/links.cmake
    VERBATIM)
  add_library(${name} STATIC ${arg_SOURCES} ${links})
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

# postern_python_test(NAME FILE): a unittest file that drives programs as built. It
# finds them by POSTERN_BIN; foreign clients by POSTERN_PYTHON and NODE_PATH, which ./dev sets.
function(postern_python_test name file)
  add_test(NAME ${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
                       ENVIRONMENT "POSTERN_BIN=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
endfunction()
