# The version of edgekit, for CMakeLists.txt and for find_package(edgekit VERSION). tests/examples/test_cpp.py holds it to
# pyproject.toml. Before 1.0, versions with another second number are not compatible.
set(PACKAGE_VERSION 0.1.0)
if(DEFINED PACKAGE_FIND_VERSION)
  string(REGEX MATCH "^[0-9]+[.][0-9]+" _edgekit_series ${PACKAGE_VERSION})
  if(PACKAGE_FIND_VERSION_COUNT LESS 2)
    string(REGEX MATCH "^[0-9]+" _edgekit_series ${PACKAGE_VERSION}) # only the first number was asked for
  endif()
  if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION OR
     NOT "${PACKAGE_FIND_VERSION}." MATCHES "^${_edgekit_series}[.]")
    set(PACKAGE_VERSION_COMPATIBLE FALSE)
  else()
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
    if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
      set(PACKAGE_VERSION_EXACT TRUE)
    endif()
  endif()
endif()
