# One object library for each room of src/. A new .c file in a room is built without touching this file.
function(pil_room name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.c)
  if(NOT PILLION_FAULTS)
    list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/src/proc/fault.c) # faults on demand, for test builds only
  endif()
  if(sources)
    add_library(room_${name} OBJECT ${sources})
    target_link_libraries(room_${name} PRIVATE pil_options ${ARGN})
  endif()
endfunction()

set(PIL_LIBRARY_ROOMS base kernel weights token engine compile lib)
set(PIL_SERVER_ROOMS sandbox sched extract proc hub http)

pil_room(base pil_jansson pil_crypto)
foreach(room kernel weights token engine compile lib)
  pil_room(${room})
endforeach()
include(${CMAKE_SOURCE_DIR}/cmake/KernelFlags.cmake)

# The library half: static for our own program and tests, shared for applications.
set(library_objects "")
foreach(room ${PIL_LIBRARY_ROOMS})
  if(TARGET room_${room})
    list(APPEND library_objects $<TARGET_OBJECTS:room_${room}>)
  endif()
endforeach()
add_library(pillion_static STATIC ${library_objects})
set_target_properties(pillion_static PROPERTIES OUTPUT_NAME pillion)
target_link_libraries(pillion_static PUBLIC pil_options pil_jansson pil_crypto Threads::Threads m)
add_library(pillion_shared SHARED ${library_objects})
set_target_properties(pillion_shared PROPERTIES OUTPUT_NAME pillion VERSION ${PROJECT_VERSION} SOVERSION 0
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/pillion.map)
target_link_options(pillion_shared PRIVATE
  LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/pillion.map LINKER:--exclude-libs,ALL)
target_link_libraries(pillion_shared PRIVATE pil_options pil_jansson_shared pil_crypto_shared Threads::Threads m)

# The example: what an application does, with the public header and the shared library alone.
add_executable(example_nearest ${CMAKE_SOURCE_DIR}/examples/nearest.c)
target_include_directories(example_nearest PRIVATE ${CMAKE_SOURCE_DIR}/include)
target_compile_options(example_nearest PRIVATE -Wall -Wextra -Werror)
target_link_libraries(example_nearest PRIVATE pillion_shared)

# The server half sees the library only through pillion.h.
if(PILLION_SERVER)
  foreach(room ${PIL_SERVER_ROOMS})
    pil_room(${room} pil_jansson pil_uv pil_seccomp llhttp)
  endforeach()
  set(server_objects "")
  foreach(room ${PIL_SERVER_ROOMS})
    if(TARGET room_${room})
      list(APPEND server_objects $<TARGET_OBJECTS:room_${room}>)
    endif()
  endforeach()
  if(server_objects)
    add_library(pillion_server STATIC ${server_objects})
    target_link_libraries(pillion_server PUBLIC pillion_static pil_uv pil_seccomp llhttp)
  endif()
endif()
