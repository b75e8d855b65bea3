# Warnings, hardening, sanitizers and coverage, as one interface target that everything of ours links.
add_library(pil_options INTERFACE)
target_include_directories(pil_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_compile_options(pil_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Wformat=2 -Wundef -fno-strict-aliasing -fvisibility=hidden -ffp-contract=off
  $<$<C_COMPILER_ID:Clang>:-Wno-string-conversion> # assert(!"why this cannot happen")
  -fstack-protector-strong $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=2>)
target_compile_definitions(pil_options INTERFACE _GNU_SOURCE)
target_link_options(pil_options INTERFACE LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)

# asserts stay on in every build (no -DNDEBUG): a broken invariant must stop the worker, not corrupt an answer
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O1 -g")

if(PILLION_FAULTS)
  target_compile_definitions(pil_options INTERFACE PILLION_FAULTS)
endif()
if(PILLION_SANITIZE OR PILLION_COVERAGE)
  target_compile_definitions(pil_options INTERFACE PIL_INSTRUMENTED) # a runtime that needs more than the program does
endif()
if(PILLION_SANITIZE)
  target_compile_options(pil_options INTERFACE
    -fsanitize=${PILLION_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(pil_options INTERFACE -fsanitize=${PILLION_SANITIZE})
endif()
if(PILLION_COVERAGE)
  target_compile_options(pil_options INTERFACE --coverage -O1)
  target_link_options(pil_options INTERFACE --coverage)
endif()
