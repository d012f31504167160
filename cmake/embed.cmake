# cmake -D IN=FILE -D OUT=STEM -D SYMBOL=NAME -P embed.cmake
# Writes STEM.c and STEM.h: the bytes of FILE as `const uint8_t NAME[]`, and `NAME_len`.
file(READ ${IN} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR len "${digits} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
get_filename_component(header ${OUT}.h NAME)
file(WRITE ${OUT}.h "#pragma once
#include <stddef.h>
#include <stdint.h>
extern const uint8_t ${SYMBOL}[];
extern const size_t ${SYMBOL}_len;
")
file(WRITE ${OUT}.c "#include \"${header}\"
const uint8_t ${SYMBOL}[] = {
${bytes}
};
const size_t ${SYMBOL}_len = ${len};
")
