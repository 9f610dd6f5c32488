# mmkd_add_mpi_test(NAME <name> RANKS <n> COMMAND <program> [arg…] [TIMEOUT <seconds>]
#                   [EXPECT_EXIT <code>|nonzero] [EXPECT_OUTPUT <regex>] [LABELS label…])
# Runs a program under mpirun; by default every rank has to exit with 0. With EXPECT_EXIT or EXPECT_OUTPUT the run must
# end within TIMEOUT (default 300), with that exit code, having printed (on any rank) something that matches.
set(MMKD_MPIRUN_FLAGS --allow-run-as-root --oversubscribe --bind-to none --mca mpi_yield_when_idle 1
    --mca btl_vader_single_copy_mechanism none
    CACHE STRING "Flags of mpirun in tests: more ranks than cores, inside containers, as root")
set(MMKD_RUN_RANKS_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/run_ranks.cmake)

function(mmkd_add_mpi_test)
  cmake_parse_arguments(T "" "NAME;RANKS;TIMEOUT;EXPECT_EXIT;EXPECT_OUTPUT" "COMMAND;LABELS" ${ARGN})
  if(NOT T_NAME OR NOT T_RANKS OR NOT T_COMMAND OR T_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mmkd_add_mpi_test: NAME, RANKS and COMMAND are needed; not understood: ${T_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  list(POP_FRONT T_COMMAND program)
  if(TARGET ${program})
    set(program $<TARGET_FILE:${program}>)
  endif()
  set(run ${MPIEXEC_EXECUTABLE} ${MMKD_MPIRUN_FLAGS} -n ${T_RANKS} ${program} ${T_COMMAND})
  if(DEFINED T_EXPECT_EXIT OR DEFINED T_EXPECT_OUTPUT)
    if(NOT DEFINED T_EXPECT_EXIT)
      set(T_EXPECT_EXIT 0)
    endif()
    set(run ${CMAKE_COMMAND} -DEXPECT_EXIT=${T_EXPECT_EXIT} "-DEXPECT_OUTPUT=${T_EXPECT_OUTPUT}" -DTIMEOUT=${T_TIMEOUT}
            -P ${MMKD_RUN_RANKS_SCRIPT} -- ${run})
    math(EXPR T_TIMEOUT "${T_TIMEOUT} + 30")
  endif()
  add_test(NAME ${T_NAME} COMMAND ${run})
  set_tests_properties(${T_NAME} PROPERTIES LABELS "mpi;${T_LABELS}" PROCESSORS ${T_RANKS} TIMEOUT ${T_TIMEOUT})
endfunction()
