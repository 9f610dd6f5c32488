# cmake -DPYTHON=… -DWRITER=… -DCHECK=… -DFOLDER=… -P run_check.cmake: WRITER fills FOLDER, CHECK looks at it.
if(NOT EXISTS ${PYTHON})
  message(STATUS "no Python at ${PYTHON}")
  message("skipped: needs a Python with torch and transformers (MMKD_PYTHON)")
  return()
endif()
file(REMOVE_RECURSE ${FOLDER})
execute_process(COMMAND ${WRITER} ${FOLDER} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} -E env HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error ${PYTHON} ${CHECK} ${FOLDER}
                COMMAND_ERROR_IS_FATAL ANY)
