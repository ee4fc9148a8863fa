# MuJoCo 3.3.0 as scripts/setup unpacks it: the imported target mujoco::mujoco. Programs find the library by their run path.
set(TORPOR_MUJOCO "${TORPOR_CACHE_FOLDER}/mujoco-3.3.0" CACHE PATH "Folder with MuJoCo's include/ and lib/")
if(NOT EXISTS "${TORPOR_MUJOCO}/complete")
  message(FATAL_ERROR "MuJoCo 3.3.0 is not in ${TORPOR_MUJOCO}. Get it with: scripts/setup lab. "
    "Or configure without lab/: -DTORPOR_LAB=OFF")
endif()

add_library(mujoco::mujoco SHARED IMPORTED GLOBAL)
set_target_properties(mujoco::mujoco PROPERTIES
  IMPORTED_LOCATION "${TORPOR_MUJOCO}/lib/libmujoco.so.3.3.0"
  INTERFACE_INCLUDE_DIRECTORIES "${TORPOR_MUJOCO}/include"
  INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${TORPOR_MUJOCO}/include")
