# Vector flags go to the kernel files of one tier only, and those are built without LTO: an inlined helper of a higher
# tier would be an illegal instruction on an older machine. A file kernel_TIER*.c or TIER-named variants get the flags.
# They keep the compiler's own choice for stack and variables too: their arrays on the stack are tiles of registers that
# are written before they are read, and clearing them costs time in the innermost loops.
set(plain "-fno-stack-protector" "-ftrivial-auto-var-init=uninitialized")
if(NOT PIL_HAS_ZERO_INIT)
  list(REMOVE_AT plain 1)
endif()
file(GLOB avx2 ${CMAKE_SOURCE_DIR}/src/kernel/*_avx2.c)
file(GLOB avx512 ${CMAKE_SOURCE_DIR}/src/kernel/*_avx512.c)
file(GLOB neon ${CMAKE_SOURCE_DIR}/src/kernel/*_neon.c)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS "-O3;-mavx2;-mfma;-mf16c;${plain}")
  set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS
    "-O3;-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mprefer-vector-width=512;${plain}")
  set_source_files_properties(${neon} PROPERTIES HEADER_FILE_ONLY ON)
else()
  set_source_files_properties(${avx2} ${avx512} PROPERTIES HEADER_FILE_ONLY ON)
  set_source_files_properties(${neon} PROPERTIES COMPILE_OPTIONS "-O3;${plain}")
endif()
