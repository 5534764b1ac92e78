/* cpu.c - cores of the machine, for programs that do not link the library. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "cpu.h"

int GetNumCPUs(void)
{
	return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int CoreAffinitize(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE || cpu >= GetNumCPUs()) {
		errno = EINVAL;
		return -1;
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}
