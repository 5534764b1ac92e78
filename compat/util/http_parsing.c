/* http_parsing.c - just enough HTTP/1 for test clients and servers. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_parsing.h"

/* httpdate_to_timet() is in tdate_parse.c, which programs rarely compile in. */
#include "tdate_parse.h"
extern time_t httpdate_to_timet(const char *text) __attribute__((weak));

/* What follows "key" in the line that begins with it, blanks skipped; NULL without one. */
static const char *field_value(const char *text, const char *key, size_t key_len)
{
	const char *line;

	for (line = strchr(text, '\n'); line; line = strchr(line, '\n')) {
		line++;
		if (strncasecmp(line, key, key_len) == 0)
			return line + key_len + strspn(line + key_len, " \t");
	}
	return NULL;
}

/* Copies `n` bytes, or as many as fit, and ends them. */
static char *copy_out(char *value, int value_len, const char *from, size_t n)
{
	if (value_len < 1)
		return NULL;
	if (n > (size_t)value_len - 1)
		n = (size_t)value_len - 1;
	memcpy(value, from, n);
	value[n] = '\0';
	return value;
}

static int begins_with(const char *data, int len, const char *word)
{
	size_t n = strlen(word);

	return len >= 0 && (size_t)len >= n && memcmp(data, word, n) == 0;
}

int find_http_header(char *data, int len)
{
	int i, end = 0;

	/* An empty line: a line feed after a line feed, with or without a carriage return. */
	for (i = 1; i < len && !end; i++)
		if (data[i] == '\n' &&
		    (data[i - 1] == '\n' ||
		     (i > 1 && data[i - 1] == '\r' && data[i - 2] == '\n')))
			end = i + 1;
	if (end)
		data[end - 1] = '\0';
	return end;
}

int is_http_response(char *data, int len)
{
	return begins_with(data, len, "HTTP/");
}

int is_http_request(char *data, int len)
{
	if (begins_with(data, len, "GET "))
		return GET;
	return begins_with(data, len, "POST ") ? POST : 0;
}

char *http_header_str_val(const char *buf, const char *key, const int key_len, char *value,
			  int value_len)
{
	const char *found = key_len > 0 ? field_value(buf, key, (size_t)key_len) : NULL;
	size_t n = found ? strcspn(found, "\r\n") : 0;

	copy_out(value, value_len, found ? found : "", n);
	return n > 0 && value_len > 1 ? value : NULL;
}

long int http_header_long_val(const char *buf, const char *key, int key_len)
{
	const char *found = key_len > 0 ? field_value(buf, key, (size_t)key_len) : NULL;
	char *end;
	long int n;

	if (!found)
		return -1;
	errno = 0;
	n = strtol(found, &end, 10);
	return end == found || errno == ERANGE ? -1 : n;
}

char *http_get_http_version_resp(char *data, int len, char *value, int value_len)
{
	size_t n = 0;

	if (!is_http_response(data, len)) {
		copy_out(value, value_len, "", 0);
		return NULL;
	}
	while (n < (size_t)len && data[n] && !isspace((unsigned char)data[n]))
		n++;
	return copy_out(value, value_len, data, n);
}

char *http_get_url(char *data, int data_len, char *value, int value_len)
{
	char *target = data + strlen(HTTP_GET);
	char *end = data + data_len;
	size_t n = 0;

	if (!begins_with(data, data_len, HTTP_GET)) {
		copy_out(value, value_len, "", 0);
		return NULL;
	}
	while (target < end && (*target == ' ' || *target == '\t'))
		target++;
	while (target + n < end && target[n] && !isspace((unsigned char)target[n]))
		n++;
	copy_out(value, value_len, target, n);
	return target;
}

int http_get_status_code(void *response)
{
	int code, version;

	return http_parse_first_resp_line(response, (int)strnlen(response, 64), &code, &version)
		       ? code : -1;
}

int http_get_maxage(char *cache_ctl, int len)
{
	static const char name[] = "max-age=";
	long int n = 0;
	int i;

	for (i = 0; i + (int)strlen(name) < len && cache_ctl[i]; i++) {
		if (strncasecmp(cache_ctl + i, name, strlen(name)) != 0)
			continue;
		i += (int)strlen(name);
		if (i >= len || !isdigit((unsigned char)cache_ctl[i]))
			return -1;
		for (; i < len && isdigit((unsigned char)cache_ctl[i]); i++)
			if (n < INT_MAX)
				n = n * 10 + (cache_ctl[i] - '0');
		return n > INT_MAX ? INT_MAX : (int)n;
	}
	return -1;
}

time_t http_header_date(const char *data, const char *field, int len)
{
	char text[64];

	if (!httpdate_to_timet || !http_header_str_val(data, field, len, text, sizeof(text)))
		return (time_t)-1;
	return httpdate_to_timet(text);
}

int http_parse_first_resp_line(const char *data, int len, int *scode, int *ver)
{
	const char *code = data + strlen("HTTP/1.1 ");

	if (len < (int)strlen("HTTP/1.1 200"))
		return 0;
	if (memcmp(data, "HTTP/1.1 ", 9) == 0)
		*ver = HTTP_11;
	else if (memcmp(data, "HTTP/1.0 ", 9) == 0)
		*ver = HTTP_10;
	else
		return 0;
	if (!isdigit((unsigned char)code[0]) || !isdigit((unsigned char)code[1]) ||
	    !isdigit((unsigned char)code[2]))
		return 0;
	*scode = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
	return 1;
}

int http_check_header_field(const char *data, const char *field)
{
	return field_value(data, field, strlen(field)) != NULL;
}
