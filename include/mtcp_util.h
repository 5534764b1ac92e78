/*
 * mtcp_util.h - helpers beside the stack: steering, words of a line, xxHash.
 */
#ifndef MOS_MTCP_UTIL_H
#define MOS_MTCP_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The core that a flow with these addresses and ports is steered to when num_queues cores
 * share the work. Same result for both directions; the byte order of the arguments does
 * not matter as long as it is one for all. num_queues < 1: 0.
 */
int GetRSSCPUCore(in_addr_t sip, in_addr_t dip, in_port_t sp, in_port_t dp, int num_queues);

/*
 * Splits str into words, in place: white space separates, '...' and "..." hold a word
 * together. Stores at most max_argc - 1 pointers and a NULL after the last; their number
 * goes to *argc. 0, or -1 when a pointer is NULL or max_argc < 1.
 */
int StrToArgs(char *str, int *argc, char **argv, int max_argc);

/* xxHash of `length` bytes, 32 bits wide. */
unsigned int XXH32(const void *input, size_t length, unsigned int seed);

/* xxHash of `length` bytes, 64 bits wide. */
unsigned long long XXH64(const void *input, size_t length, unsigned long long seed);

#ifdef __cplusplus
}
#endif

#endif
