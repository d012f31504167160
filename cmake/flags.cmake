# Warnings, hardening and sanitizers, for every target of ours.
# POSTERN_SANITIZE is "", "address" (with undefined), "thread" or "fuzzer" (with address).
set(POSTERN_SANITIZE "" CACHE STRING "address, thread, fuzzer or nothing")
option(POSTERN_WERROR "Treat warnings as errors" ON)

set(CMAKE_C_STANDARD 23)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

add_compile_definitions(_GNU_SOURCE POSTERN_VERSION="${PROJECT_VERSION}")
add_compile_options(
  -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wvla -Wundef -Wstrict-prototypes
  -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wformat=2 -Wimplicit-fallthrough
  -fno-common -fstack-protector-strong -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(POSTERN_WERROR)
  add_compile_options(-Werror)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
  add_compile_options(-fcf-protection=full)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -ftrivial-auto-var-init=zero
                      -ffunction-sections -fdata-sections)
  add_link_options(-Wl,--gc-sections)
endif()
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,--as-needed)

if(POSTERN_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(POSTERN_SANITIZED)
elseif(POSTERN_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
  add_compile_definitions(POSTERN_SANITIZED)
elseif(POSTERN_SANITIZE STREQUAL "fuzzer")
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
  add_compile_definitions(POSTERN_SANITIZED)
elseif(POSTERN_SANITIZE)
  message(FATAL_ERROR "POSTERN_SANITIZE is \"${POSTERN_SANITIZE}\": expected address, thread or fuzzer")
endif()
