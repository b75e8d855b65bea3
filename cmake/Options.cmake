# Warnings, hardening, sanitizers and coverage, as one interface target that everything of ours links.
add_library(pil_options INTERFACE)
target_include_directories(pil_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_compile_options(pil_options INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Wformat=2 -Wundef -fno-strict-aliasing -fvisibility=hidden -ffp-contract=off
  $<$<C_COMPILER_ID:Clang>:-Wno-string-conversion>) # assert(!"why this cannot happen")
target_compile_definitions(pil_options INTERFACE _GNU_SOURCE)

# Hardening. What a compiler or a processor does not know is left out; tools/check_hardening.py proves, for a release,
# that the program has it. Kernels are excepted from the stack protector and from zeroed variables (KernelFlags.cmake).
include(CheckCCompilerFlag)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
set(PIL_HARDENING "")
function(pil_harden name flags)
  string(REPLACE ";" " " line "${flags}")
  set(CMAKE_REQUIRED_FLAGS "-Werror")
  check_c_compiler_flag("${line}" PIL_HAS_${name})
  if(PIL_HAS_${name})
    set(PIL_HARDENING ${PIL_HARDENING} ${flags} PARENT_SCOPE)
  endif()
endfunction()
pil_harden(STACK_PROTECTOR -fstack-protector-strong)
pil_harden(STACK_CLASH -fstack-clash-protection) # a large frame touches each page: it cannot jump over the guard page
pil_harden(ZERO_INIT -ftrivial-auto-var-init=zero)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  pil_harden(CF_PROTECTION -fcf-protection=full)
else()
  pil_harden(BRANCH_PROTECTION -mbranch-protection=standard)
endif()
target_compile_options(pil_options INTERFACE ${PIL_HARDENING}
  $<$<CONFIG:Release>:-U_FORTIFY_SOURCE> $<$<CONFIG:Release>:-D_FORTIFY_SOURCE=3>)
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
