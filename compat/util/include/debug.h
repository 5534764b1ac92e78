/*
 * debug.h - trace macros for applications, each switched on by a define of its own.
 *
 *   TRACE_CONFIG   always, to stdout
 *   TRACE_ERROR    with DBGERR, to stdout, after "[function:line] "
 *   TRACE_INFO     with INFO, likewise
 *   TRACE_DBG      with DBGMSG, to stderr, likewise
 *   TRACE_FUNC     with DBGFUNC, to stderr, after a name; TRACE_EPOLL (EPOLL) and
 *                  TRACE_APP (APP) are TRACE_FUNC with that name
 */
#ifndef MOS_UTIL_DEBUG_H
#define MOS_UTIL_DEBUG_H

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define MOS_TRACE_OFF() do { } while (0)
#define MOS_TRACE_TO(file, format, args...) \
	do { \
		fprintf(file, "[%10s:%4d] " format, __func__, __LINE__, ##args); \
	} while (0)

#define TRACE_CONFIG(format, args...) \
	do { \
		fprintf(stdout, format, ##args); \
	} while (0)

#ifdef DBGERR
#define TRACE_ERROR(format, args...) MOS_TRACE_TO(stdout, format, ##args)
#else
#define TRACE_ERROR(format, args...) MOS_TRACE_OFF()
#endif

#ifdef INFO
#define TRACE_INFO(format, args...) MOS_TRACE_TO(stdout, format, ##args)
#else
#define TRACE_INFO(format, args...) MOS_TRACE_OFF()
#endif

#ifdef DBGMSG
#define TRACE_DBG(format, args...) MOS_TRACE_TO(stderr, format, ##args)
#else
#define TRACE_DBG(format, args...) MOS_TRACE_OFF()
#endif

#ifdef DBGFUNC
#define TRACE_FUNC(name, format, args...) \
	do { \
		fprintf(stderr, "%6s: [%10s:%4d] " format, name, __func__, __LINE__, ##args); \
	} while (0)
#else
#define TRACE_FUNC(name, format, args...) MOS_TRACE_OFF()
#endif

#ifdef EPOLL
#define TRACE_EPOLL(format, args...) TRACE_FUNC("EPOLL", format, ##args)
#else
#define TRACE_EPOLL(format, args...) MOS_TRACE_OFF()
#endif

#ifdef APP
#define TRACE_APP(format, args...) TRACE_FUNC("APP", format, ##args)
#else
#define TRACE_APP(format, args...) MOS_TRACE_OFF()
#endif

#endif
