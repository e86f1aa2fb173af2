# Which floor uses which library: the only place that says so.
target_link_libraries(hylas_base PUBLIC hylas_boost)
if(TARGET hylas_text)
  target_link_libraries(hylas_text PUBLIC hylas_utf8proc hylas_xgrammar)
endif()
if(TARGET hylas_comm)
  target_link_libraries(hylas_comm PUBLIC hylas_ucx)
endif()
if(TARGET hylas_serve)
  target_link_libraries(hylas_serve PUBLIC hylas_prometheus)
endif()

# The CPU kernels are where the time goes.
file(GLOB kernel_sources CONFIGURE_DEPENDS src/ops/cpu/*.cc)
set_source_files_properties(${kernel_sources} PROPERTIES COMPILE_OPTIONS -O3)
if(TARGET hylas_ops)
  include(cmake/cpu_isa.cmake)
endif()
