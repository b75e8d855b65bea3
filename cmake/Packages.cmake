# Libraries. Static ones where the distribution has them, so that the program is one file that depends on libc alone.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# pil_package(NAME pkg static-names...): interface targets pil_NAME_shared (through pkg-config; what a shared library of
# ours needs, since the distribution's archives are not position independent) and pil_NAME (static if found).
function(pil_package name pkg)
  add_library(pil_${name} INTERFACE)
  add_library(pil_${name}_shared INTERFACE)
  pkg_check_modules(${name} REQUIRED ${pkg})
  target_include_directories(pil_${name} SYSTEM INTERFACE ${${name}_INCLUDE_DIRS})
  target_link_libraries(pil_${name}_shared INTERFACE ${${name}_LINK_LIBRARIES})
  find_library(${name}_STATIC NAMES ${ARGN} HINTS ${${name}_LIBRARY_DIRS} ${${name}_LIBDIR})
  if(${name}_STATIC AND NOT PILLION_SANITIZE MATCHES "memory")
    target_link_libraries(pil_${name} INTERFACE ${${name}_STATIC})
  else()
    target_link_libraries(pil_${name} INTERFACE ${${name}_LINK_LIBRARIES})
  endif()
endfunction()

pil_package(jansson jansson libjansson.a)
# libpillion.so has a jansson of its own where that can be: json.c gives jansson another allocator, which is the
# process's business where jansson is shared with the application (json.c leaves it alone then). Debian's archive is
# compiled for programs: it asks where stdin is in a way that a shared library cannot answer, so there it finds a NULL
# of ours; nobody here reads JSON from stdin. All other symbols are hidden by the version script.
set(PIL_PRIVATE_JANSSON_OPTIONS LINKER:--wrap=stdin LINKER:-z,text)
if(jansson_STATIC AND NOT PILLION_SANITIZE)
  include(CheckCSourceCompiles)
  set(CMAKE_REQUIRED_LINK_OPTIONS -shared ${PIL_PRIVATE_JANSSON_OPTIONS}
    LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/pillion.map)
  set(CMAKE_REQUIRED_LIBRARIES ${jansson_STATIC})
  check_c_source_compiles("
    __attribute__((visibility(\"hidden\"))) void *__wrap_stdin;
    void *json_loads(const char *, unsigned long, void *);
    int main(void) { return json_loads(\"\", 0, 0) != 0; }" PIL_HAS_PRIVATE_JANSSON)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  unset(CMAKE_REQUIRED_LIBRARIES)
endif()
pil_package(crypto libcrypto libcrypto.a)
target_link_libraries(pil_crypto INTERFACE ${CMAKE_DL_LIBS} Threads::Threads)
if(PILLION_SERVER)
  pil_package(uv libuv libuv_a.a libuv.a)
  target_link_libraries(pil_uv INTERFACE ${CMAKE_DL_LIBS} Threads::Threads)
  pil_package(seccomp libseccomp libseccomp.a)
  include(cmake/Llhttp.cmake)
endif()
if(PILLION_TESTS)
  pil_package(cmocka cmocka libcmocka-static.a)
endif()
