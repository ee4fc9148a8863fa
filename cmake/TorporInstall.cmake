# `cmake --install`: programs, the libraries of core/ and engine/, their headers and a CMake package.
#   find_package(Torpor REQUIRED)                       target_link_libraries(x Torpor::torpor)    everything
#   find_package(Torpor REQUIRED COMPONENTS activity)   target_link_libraries(x Torpor::activity)  one library and what it needs
# lab/ is no part of the package: whoever links LibTorch brings a LibTorch of their own.
include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY TORPOR_LIBRARIES)
list(FILTER libraries EXCLUDE REGEX "^torpor_lab")

add_library(torpor_everything INTERFACE)
set_target_properties(torpor_everything PROPERTIES EXPORT_NAME torpor)
target_link_libraries(torpor_everything INTERFACE ${libraries})
add_library(Torpor::torpor ALIAS torpor_everything)
add_custom_target(torpor_libraries DEPENDS ${libraries})  # what an installation needs besides the programs

install(TARGETS ${libraries} torpor_everything EXPORT TorporTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
foreach(program torpor torpor-lab)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
install(DIRECTORY "${PROJECT_SOURCE_DIR}/core" "${PROJECT_SOURCE_DIR}/engine"
  DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/torpor" FILES_MATCHING PATTERN "*.h")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/THIRD_PARTY_NOTICES"
  DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(package "${CMAKE_INSTALL_LIBDIR}/cmake/Torpor")
install(EXPORT TorporTargets NAMESPACE Torpor:: DESTINATION "${package}")
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/TorporConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/TorporConfig.cmake" INSTALL_DESTINATION "${package}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/TorporConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/TorporConfig.cmake" "${PROJECT_BINARY_DIR}/TorporConfigVersion.cmake"
  DESTINATION "${package}")
