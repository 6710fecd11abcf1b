/* Errors go to stderr, once each; more only where LIBCUDA_LOG_LEVEL asks for it. Nothing ever goes to stdout. */
#pragma once

extern int ph_log_level; /* HAMi's scale: 0 errors, 2 warnings (default), 3 information, 4 every decision */
void ph_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define ph_error(...) ph_log(0, __VA_ARGS__)
#define ph_warn(...) ph_log(2, __VA_ARGS__)
#define ph_info(...) ph_log(3, __VA_ARGS__)
