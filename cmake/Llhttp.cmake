# llhttp 9.4.3, the strict HTTP/1.1 parser of Node.js: its C source travels inside the registry package httptools 0.9.0.
# Fetched once, pinned by SHA-256, built here. tools/fetch_llhttp.sh does the fetching, so that it can run before cmake.
set(PILLION_LLHTTP_DIR "${CMAKE_SOURCE_DIR}/.deps/llhttp" CACHE PATH "llhttp's source: include/ and src/")
if(NOT EXISTS "${PILLION_LLHTTP_DIR}/src/llhttp.c")
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/fetch_llhttp.sh "${PILLION_LLHTTP_DIR}" RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "tools/fetch_llhttp.sh could not fetch llhttp into ${PILLION_LLHTTP_DIR}")
  endif()
endif()
add_library(llhttp STATIC
  ${PILLION_LLHTTP_DIR}/src/api.c ${PILLION_LLHTTP_DIR}/src/http.c ${PILLION_LLHTTP_DIR}/src/llhttp.c)
target_include_directories(llhttp SYSTEM PUBLIC ${PILLION_LLHTTP_DIR}/include)
