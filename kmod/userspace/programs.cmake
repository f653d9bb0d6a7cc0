# adapath_kmod_programs: the C that the kernel module runs networks with, compiled for userspace with the kernel's code generation
# flags, so that tests and benches run what a module runs. Included where it is needed.
if(NOT TARGET adapath_kmod_programs)
  set(directory ${CMAKE_CURRENT_LIST_DIR}/..)
  add_library(adapath_kmod_programs STATIC
    ${directory}/userspace/shared.c ${directory}/simd_avx2.c ${directory}/simd_vnni.c)
  target_link_libraries(adapath_kmod_programs PUBLIC adapath_include)
  target_include_directories(adapath_kmod_programs INTERFACE ${directory}/userspace)
  # A kernel has no other vector and floating point code, no red zone, a stack aligned to 8, and little of it.
  set(kernel_options -O2 -ffreestanding -fno-builtin -mno-red-zone -Wframe-larger-than=1600
      -Wdeclaration-after-statement -Wvla -Wmissing-prototypes -Wstrict-prototypes -Werror)
  if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    list(APPEND kernel_options -mpreferred-stack-boundary=3)
  else()
    list(APPEND kernel_options -mstack-alignment=8)
  endif()
  target_compile_options(adapath_kmod_programs PRIVATE ${kernel_options})
  set_source_files_properties(${directory}/userspace/shared.c PROPERTIES COMPILE_OPTIONS "-mgeneral-regs-only")
  set_source_files_properties(${directory}/simd_avx2.c PROPERTIES COMPILE_OPTIONS "-mavx2")
  set_source_files_properties(${directory}/simd_vnni.c PROPERTIES
    COMPILE_OPTIONS "-mavx512f;-mavx512vl;-mavx512bw;-mavx512vnni")
endif()
