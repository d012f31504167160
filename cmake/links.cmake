# cmake -D LIB=lib -D FOLDER=lib/NAME -D "FILES=a.c a.h" -D "LINKS=x y" -D STAMP=FILE -P links.cmake
# Fails unless what the files include of lib/ belongs to the folder itself, to base or to LINKS; and
# unless each of LINKS is included: a link that nobody needs is none.
cmake_policy(VERSION 3.25)
separate_arguments(files UNIX_COMMAND "${FILES}")
separate_arguments(links UNIX_COMMAND "${LINKS}")
get_filename_component(name ${FOLDER} NAME)

set(used)
foreach(file ${files})
  file(STRINGS ${FOLDER}/${file} includes REGEX "^#include \"")
  foreach(include ${includes})
    string(REGEX REPLACE "^#include \"([^/\"]*).*" "\\1" folder "${include}")
    if(NOT EXISTS ${LIB}/${folder}/CMakeLists.txt)
      continue() # generated from proto/, or a file beside it
    endif()
    list(APPEND used ${folder})
    if(NOT folder IN_LIST links AND NOT folder STREQUAL name AND NOT folder STREQUAL "base")
      message(FATAL_ERROR "lib/${name}/${file}: ${include}: lib/${name} does not link ${folder}")
    endif()
  endforeach()
endforeach()
foreach(link ${links})
  if(EXISTS ${LIB}/${link}/CMakeLists.txt AND NOT link IN_LIST used)
    message(FATAL_ERROR "lib/${name}/CMakeLists.txt: links ${link}, and includes nothing of it")
  endif()
endforeach()
file(TOUCH ${STAMP})
