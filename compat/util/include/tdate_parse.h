/* tdate_parse.h - the dates of HTTP. */
#ifndef MOS_UTIL_TDATE_PARSE_H
#define MOS_UTIL_TDATE_PARSE_H

#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads a date in any of HTTP's three forms ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday,
 * 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"). (time_t)-1 when it is none.
 */
time_t httpdate_to_timet(const char *str);

/* Writes a date in the first form. 0, or -1 when `strlen` bytes are too few. */
int timet_to_httpdate(time_t t, char *str, int strlen);

#ifdef __cplusplus
}
#endif

#endif
