/*
 * rss.c - the Toeplitz hash with a key that repeats one byte.
 *
 * With such a key the hash depends only on the XOR of all input bytes, and is one byte
 * repeated: bit i of that XOR (from the top) adds the key rotated left by i.
 */
#include "rss.h"

#define KEY_BYTE 0x05

uint32_t GetRSSHash(in_addr_t sip, in_addr_t dip, in_port_t sp, in_port_t dp)
{
	uint32_t mixed = sip ^ dip ^ sp ^ dp;
	uint8_t input, hash = 0;
	int i;

	mixed ^= mixed >> 16;
	input = (uint8_t)(mixed ^ (mixed >> 8));
	for (i = 0; i < 8; i++)
		if (input & (0x80 >> i))
			hash ^= (uint8_t)((KEY_BYTE << i) | (KEY_BYTE >> (8 - i)));
	return hash * 0x01010101u;
}
