# Protocol Buffers: protobuf-c's messages, and descriptor sets for reflection.
find_program(POSTERN_PROTOC protoc REQUIRED)
find_program(POSTERN_PROTOC_GEN_C protoc-gen-c REQUIRED)
find_path(POSTERN_PROTO_INCLUDE google/protobuf/timestamp.proto REQUIRED)

# postern_protoc(PROTO postern/v1/node.proto ROOT dir OUTPUT file… ARGS --x_out=… [DEPENDS …])
# One run of protoc. ROOT is the folder that imports are resolved from; the run is repeated when any
# .proto under it changes, because any may be imported.
function(postern_protoc)
  cmake_parse_arguments(arg "" "PROTO;ROOT" "OUTPUT;ARGS;DEPENDS" ${ARGN})
  file(GLOB_RECURSE imports CONFIGURE_DEPENDS ${arg_ROOT}/*.proto)
  add_custom_command(
    OUTPUT ${arg_OUTPUT}
    COMMAND ${POSTERN_PROTOC} -I ${arg_ROOT} -I ${POSTERN_PROTO_INCLUDE} ${arg_ARGS} ${arg_PROTO}
    DEPENDS ${imports} ${arg_DEPENDS}
    COMMENT "protoc ${arg_PROTO}"
    VERBATIM)
endfunction()

# postern_protos(NAME ROOT dir FILES a.proto… [WELL_KNOWN google/protobuf/x.proto…] [SERVICES a.proto…])
# A static library of protobuf-c messages: #include "postern/v1/node.pb-c.h". Only lib/pb calls their
# unpack functions (ci/lint); everyone else goes through pb/message.h.
#   FILES       paths below ROOT, as they are imported
#   WELL_KNOWN  protobuf's own files that these import
#   SERVICES    those of FILES with services: "postern/v1/node.set.h" then has the FileDescriptorSet
#               of the file and of all that it imports, for reflection:
#                   extern const uint8_t postern_v1_node_set[];
#                   extern const size_t postern_v1_node_set_len;
# What is generated lies below the property POSTERN_PROTO_OUT of the target; POSTERN_PROTO_ROOT is
# ROOT, for whoever generates more from the same files.
function(postern_protos name)
  cmake_parse_arguments(arg "" "ROOT" "FILES;WELL_KNOWN;SERVICES" ${ARGN})
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.gen)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(proto ${arg_FILES} ${arg_WELL_KNOWN})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    postern_protoc(
      PROTO ${proto} ROOT ${arg_ROOT} OUTPUT ${out}/${stem}.pb-c.c ${out}/${stem}.pb-c.h
      ARGS --plugin=protoc-gen-c=${POSTERN_PROTOC_GEN_C} --c_out=${out})
    list(APPEND sources ${out}/${stem}.pb-c.c ${out}/${stem}.pb-c.h)
  endforeach()
  foreach(proto ${arg_SERVICES})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    string(REGEX REPLACE "[^A-Za-z0-9]" "_" symbol ${stem})
    file(MAKE_DIRECTORY ${out}/${stem}.d) # protoc makes no folders for a descriptor set
    postern_protoc(
      PROTO ${proto} ROOT ${arg_ROOT} OUTPUT ${out}/${stem}.d/set
      ARGS --include_imports --descriptor_set_out=${out}/${stem}.d/set)
    # C23's #embed would do, but gcc has it only since 15.
    add_custom_command(
      OUTPUT ${out}/${stem}.set.c ${out}/${stem}.set.h
      COMMAND ${CMAKE_COMMAND} -D IN=${out}/${stem}.d/set -D OUT=${out}/${stem}.set
              -D SYMBOL=${symbol}_set -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
      DEPENDS ${out}/${stem}.d/set ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
      VERBATIM)
    list(APPEND sources ${out}/${stem}.set.c ${out}/${stem}.set.h)
  endforeach()
  add_library(${name} STATIC ${sources})
  # Not our style of C, so not our warnings: neither in it nor in its headers.
  target_compile_options(${name} PRIVATE -w)
  target_include_directories(${name} SYSTEM PUBLIC ${out})
  target_link_libraries(${name} PUBLIC PkgConfig::libprotobuf-c)
  set_target_properties(${name} PROPERTIES POSTERN_PROTO_OUT ${out} POSTERN_PROTO_ROOT ${arg_ROOT})
endfunction()

# postern_stubs(NAME PROTOS target FILES a.proto…)
# A static library of typed handlers and clients over lib/rpc for the services in FILES, which are
# among the SERVICES of the postern_protos target: #include "postern/v1/secret.rpc.h".
function(postern_stubs name)
  cmake_parse_arguments(arg "" "PROTOS" "FILES" ${ARGN})
  get_target_property(root ${arg_PROTOS} POSTERN_PROTO_ROOT)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.gen)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(proto ${arg_FILES})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    postern_protoc(
      PROTO ${proto} ROOT ${root} OUTPUT ${out}/${stem}.rpc.c ${out}/${stem}.rpc.h
      ARGS --plugin=protoc-gen-postern=$<TARGET_FILE:protoc-gen-postern> --postern_out=${out}
      DEPENDS protoc-gen-postern)
    list(APPEND sources ${out}/${stem}.rpc.c ${out}/${stem}.rpc.h)
  endforeach()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${out})
  target_link_libraries(${name} PUBLIC rpc ${arg_PROTOS})
endfunction()
