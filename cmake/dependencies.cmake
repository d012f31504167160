# Foreign libraries. Each is linked by one folder of lib/ alone (ARCHITECTURE.md), privately.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
foreach(dep libcrypto libssl libuv libprotobuf-c yaml-0.1 libnghttp2 sqlite3
            tss2-mu tss2-esys tss2-tctildr tss2-rc cmocka jansson)
  pkg_check_modules(${dep} REQUIRED IMPORTED_TARGET ${dep})
endforeach()
