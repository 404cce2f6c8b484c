# find_package(edgekit) defines the target edgekit::edgekit: the shared library and its headers. This file serves two
# layouts: PREFIX/lib/cmake/edgekit/, which `cmake --install` writes, and the Python package, edgekit/native/cmake/.
if(TARGET edgekit::edgekit)
  return()
endif()
file(GLOB _edgekit_library ${CMAKE_CURRENT_LIST_DIR}/../../libedgekit_native.so
                           ${CMAKE_CURRENT_LIST_DIR}/../../libedgekit_native.dylib
                           ${CMAKE_CURRENT_LIST_DIR}/../libedgekit_native.so
                           ${CMAKE_CURRENT_LIST_DIR}/../libedgekit_native.dylib)
file(GLOB _edgekit_header ${CMAKE_CURRENT_LIST_DIR}/../include/edgekit.h
                          ${CMAKE_CURRENT_LIST_DIR}/../../../include/edgekit.h
                          ${CMAKE_CURRENT_LIST_DIR}/../../../../include/edgekit.h) # lib/x86_64-linux-gnu
if(NOT _edgekit_library OR NOT _edgekit_header)
  set(edgekit_FOUND FALSE)
  set(edgekit_NOT_FOUND_MESSAGE
      "no libedgekit_native or no edgekit.h near ${CMAKE_CURRENT_LIST_DIR}; the installation is not complete")
  return()
endif()
list(GET _edgekit_library 0 _edgekit_library)
list(GET _edgekit_header 0 _edgekit_header)
get_filename_component(_edgekit_library ${_edgekit_library} REALPATH)
get_filename_component(_edgekit_header ${_edgekit_header} REALPATH)
get_filename_component(_edgekit_include ${_edgekit_header} DIRECTORY)
add_library(edgekit::edgekit SHARED IMPORTED)
set_target_properties(edgekit::edgekit PROPERTIES IMPORTED_LOCATION ${_edgekit_library}
                                                  INTERFACE_INCLUDE_DIRECTORIES ${_edgekit_include})
