/* cpu.h - how many cores there are, and moving to one of them. */
#ifndef MOS_UTIL_CPU_H
#define MOS_UTIL_CPU_H

#ifdef __cplusplus
extern "C" {
#endif

/* Number of online cores. The library has it too; util/cpu.c is for programs without it. */
int GetNumCPUs(void);

/* Pins the calling thread to a core. 0, or -1 with EINVAL. Defined in util/cpu.c. */
int CoreAffinitize(int cpu);

#ifdef __cplusplus
}
#endif

#endif
