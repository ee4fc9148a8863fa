// The files that every report carries, inside of the program. The build defines the paths.
#if defined(__APPLE__)
#define SECTION .const_data
#define NAME(x) _##x
#else
#define SECTION .section .rodata
#define NAME(x) x
#endif
.macro embed begin, end, path
  .global \begin
  .global \end
  .balign 16
\begin:
  .incbin "\path"
\end:
  .byte 0
.endm
SECTION
  embed NAME(torpor_chart_js_begin), NAME(torpor_chart_js_end), TORPOR_CHART_JS
  embed NAME(torpor_report_js_begin), NAME(torpor_report_js_end), TORPOR_REPORT_JS
  embed NAME(torpor_report_css_begin), NAME(torpor_report_css_end), TORPOR_REPORT_CSS
#if defined(__linux__) && defined(__ELF__)
.section .note.GNU-stack,"",%progbits
#endif
