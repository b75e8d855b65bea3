# make install, pkg-config, CPack.
include(GNUInstallDirs)
install(TARGETS pillion_static pillion_shared
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/pillion/pillion.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pillion)
file(RELATIVE_PATH PILLION_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" PILLION_PC_TO_PREFIX ${PILLION_PC_TO_PREFIX})
configure_file(cmake/pillion.pc.in pillion.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/pillion.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET pillion)
  install(TARGETS pillion RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES docs/pillion.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES tools/completion/pillion.bash
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME pillion)
install(FILES tools/completion/_pillion DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES tools/completion/pillion.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

# The service names the program and its file of options by their places, which are known only when it is installed: the
# prefix, and /etc for /usr. A package is staged in a folder that it will not be in. A file of options that is there is
# somebody's own.
set(PILLION_SERVICE ${CMAKE_BINARY_DIR}/pillion.service)
install(CODE "set(source \"${CMAKE_SOURCE_DIR}/deploy\")\nset(service \"${PILLION_SERVICE}\")")
install(CODE [[
  get_filename_component(prefix "${CMAKE_INSTALL_PREFIX}" ABSOLUTE)
  string(REGEX MATCH "^.*/_CPack_Packages/[^/]+/[^/]+/[^/]+" stage "${prefix}")
  string(REGEX REPLACE "^.*/_CPack_Packages/[^/]+/[^/]+/[^/]+" "" prefix "${prefix}")
  set(PILLION_BIN "${prefix}/bin")
  string(REGEX REPLACE "^/usr/etc$" "/etc" PILLION_ETC "${prefix}/etc")
  configure_file("${source}/pillion.service.in" "${service}" @ONLY)
  if(NOT EXISTS "$ENV{DESTDIR}${stage}${PILLION_ETC}/pillion.conf")
    file(INSTALL "${source}/pillion.conf" DESTINATION "${stage}${PILLION_ETC}")
  endif()
]])
install(FILES ${PILLION_SERVICE} deploy/pillion.socket DESTINATION lib/systemd/system)
set(CPACK_GENERATOR "TGZ;DEB")
set(CPACK_PACKAGE_CONTACT "the Pillion developers")
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6")
file(WRITE ${CMAKE_BINARY_DIR}/conffiles "/etc/pillion.conf\n")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_BINARY_DIR}/conffiles)
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
include(CPack)
