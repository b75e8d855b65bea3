# The pillion program. The built-in model is compiled by a first program without one (pillion-bare), then linked in.
file(GLOB cmd_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cmd/*.c)
if(NOT cmd_sources OR NOT TARGET pillion_server)
  return()
endif()
add_library(room_cmd OBJECT ${cmd_sources})
target_link_libraries(room_cmd PRIVATE pil_options pil_jansson)

add_executable(pillion-bare ${CMAKE_SOURCE_DIR}/src/cmd/builtin/none.S $<TARGET_OBJECTS:room_cmd>)
target_link_libraries(pillion-bare PRIVATE pillion_server pil_options)

set(builtin "${PILLION_DEFAULT_MODEL_FILE}")
if(NOT builtin AND EXISTS "${PILLION_DEFAULT_MODEL}/config.json")
  set(builtin "${CMAKE_BINARY_DIR}/builtin.safetensors")
  add_custom_command(OUTPUT ${builtin}
    COMMAND pillion-bare compile --name sentence-transformers/all-MiniLM-L6-v2 ${PILLION_DEFAULT_MODEL} ${builtin}
    DEPENDS pillion-bare ${PILLION_DEFAULT_MODEL}/config.json
    COMMENT "Compiling the built-in model" VERBATIM)
endif()
if(builtin)
  add_executable(pillion ${CMAKE_SOURCE_DIR}/src/cmd/builtin/model.S $<TARGET_OBJECTS:room_cmd>)
  set_property(SOURCE ${CMAKE_SOURCE_DIR}/src/cmd/builtin/model.S APPEND PROPERTY COMPILE_DEFINITIONS PILLION_MODEL_FILE="${builtin}")
  set_property(SOURCE ${CMAKE_SOURCE_DIR}/src/cmd/builtin/model.S APPEND PROPERTY OBJECT_DEPENDS ${builtin})
  target_link_libraries(pillion PRIVATE pillion_server pil_options)
else()
  message(WARNING "No weights in ${PILLION_DEFAULT_MODEL}: pillion will have no built-in model (tools/setup.sh fetches them)")
  add_executable(pillion ${CMAKE_SOURCE_DIR}/src/cmd/builtin/none.S $<TARGET_OBJECTS:room_cmd>)
  target_link_libraries(pillion PRIVATE pillion_server pil_options)
endif()
