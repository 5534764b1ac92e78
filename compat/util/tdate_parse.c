/* tdate_parse.c - the dates of HTTP (RFC 9110 5.6.7), independent of the locale. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>

#include "tdate_parse.h"

static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
				   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static int month_number(const char *name)
{
	int i;

	for (i = 0; i < 12; i++)
		if (strcasecmp(name, months[i]) == 0)
			return i;
	return -1;
}

time_t httpdate_to_timet(const char *str)
{
	struct tm tm;
	char month[4] = "";
	int year;

	memset(&tm, 0, sizeof(tm));
	if (sscanf(str, " %*[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d", &tm.tm_mday, month, &year,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6 &&
	    sscanf(str, " %*[A-Za-z], %2d-%3[A-Za-z]-%4d %2d:%2d:%2d", &tm.tm_mday, month, &year,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6 &&
	    sscanf(str, " %*[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d", month, &tm.tm_mday,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &year) != 6)
		return (time_t)-1;

	if (year >= 0 && year < 70)
		year += 2000;
	else if (year < 100)
		year += 1900;
	tm.tm_year = year - 1900;
	tm.tm_mon = month_number(month);
	if (tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour < 0 ||
	    tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return (time_t)-1;
	return timegm(&tm);
}

int timet_to_httpdate(time_t t, char *str, int strlen)
{
	struct tm tm;
	int n;

	if (strlen < 1 || !gmtime_r(&t, &tm))
		return -1;
	n = snprintf(str, (size_t)strlen, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
		     tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		     tm.tm_sec);
	return n >= 0 && n < strlen ? 0 : -1;
}
