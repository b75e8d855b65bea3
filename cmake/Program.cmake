# The pillion program. The built-in model is compiled by a first program without one (pillion-bare), then linked in.
# The commands are a library of their own, so that tests can link single files of it.
file(GLOB cmd_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cmd/*.c)
set(main_source ${CMAKE_SOURCE_DIR}/src/cmd/main.c)
list(REMOVE_ITEM cmd_sources ${main_source})
add_library(pillion_cmd STATIC ${cmd_sources})
target_link_libraries(pillion_cmd PUBLIC pillion_server pil_options)
foreach(room ${PIL_LIBRARY_ROOMS})
  if(NOT TARGET room_${room})
    message(STATUS "src/${room} has no sources yet: the pillion program is not built")
    return()
  endif()
endforeach()

# pil_program(NAME BUILTIN.S): the program with one of the two built-in models.
function(pil_program name builtin_source)
  add_executable(${name} ${main_source} ${CMAKE_SOURCE_DIR}/src/cmd/builtin/${builtin_source})
  target_link_libraries(${name} PRIVATE pillion_cmd)
endfunction()

pil_program(pillion-bare none.S)

set(builtin "${PILLION_DEFAULT_MODEL_FILE}")
if(NOT builtin AND EXISTS "${PILLION_DEFAULT_MODEL}/config.json")
  set(builtin "${CMAKE_BINARY_DIR}/builtin.safetensors")
  add_custom_command(OUTPUT ${builtin}
    COMMAND pillion-bare compile --name sentence-transformers/all-MiniLM-L6-v2 ${PILLION_DEFAULT_MODEL} ${builtin}
    DEPENDS pillion-bare ${PILLION_DEFAULT_MODEL}/config.json
    COMMENT "Compiling the built-in model" VERBATIM)
endif()
if(builtin)
  pil_program(pillion model.S)
  set_property(SOURCE ${CMAKE_SOURCE_DIR}/src/cmd/builtin/model.S
    APPEND PROPERTY COMPILE_DEFINITIONS PILLION_MODEL_FILE="${builtin}")
  set_property(SOURCE ${CMAKE_SOURCE_DIR}/src/cmd/builtin/model.S APPEND PROPERTY OBJECT_DEPENDS ${builtin})
else()
  message(WARNING
    "No weights in ${PILLION_DEFAULT_MODEL}: pillion will have no built-in model (tools/setup.sh fetches them)")
  pil_program(pillion none.S)
endif()
