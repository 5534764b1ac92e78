/* applib.c - what the sample applications share. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <mos_api.h>

#include "applib.h"

struct name {
	uint64_t value;
	const char *text;
};

#define NAME(constant) {(uint64_t)(constant), #constant}

static char *look_up(const struct name *names, size_t n, uint64_t value)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (names[i].value == value)
			return (char *)names[i].text;
	return (char *)"Unknown";
}

char *strevent(uint64_t ev)
{
	static const struct name names[] = {
		NAME(MOS_EPOLLNONE), NAME(MOS_EPOLLIN), NAME(MOS_EPOLLPRI), NAME(MOS_EPOLLOUT),
		NAME(MOS_EPOLLRDNORM), NAME(MOS_EPOLLRDBAND), NAME(MOS_EPOLLWRNORM),
		NAME(MOS_EPOLLWRBAND), NAME(MOS_EPOLLMSG), NAME(MOS_EPOLLERR), NAME(MOS_EPOLLHUP),
		NAME(MOS_EPOLLRDHUP), NAME(MOS_EPOLLONESHOT), NAME(MOS_EPOLLET),
	};

	return look_up(names, sizeof(names) / sizeof(names[0]), ev);
}

char *strcbevent(uint64_t ev)
{
	static const struct name names[] = {
		NAME(MOS_ON_PKT_IN), NAME(MOS_ON_PKT_OUT), NAME(MOS_ON_CONN_START),
		NAME(MOS_ON_CONN_SETUP), NAME(MOS_ON_CONN_NEW_DATA), NAME(MOS_ON_ERROR),
		NAME(MOS_ON_TIMEOUT), NAME(MOS_ON_TCP_STATE_CHANGE), NAME(MOS_ON_ORPHAN),
		NAME(MOS_ON_REXMIT), NAME(MOS_ON_CONN_END), NAME(MOS_ON_DEBUG_MESSAGE),
	};

	return look_up(names, sizeof(names) / sizeof(names[0]), ev);
}

/* Cuts comment and blanks off both ends of a line, in place. */
static char *trim(char *line)
{
	char *end;

	line[strcspn(line, "#")] = '\0';
	while (isspace((unsigned char)*line))
		line++;
	end = line + strlen(line);
	while (end > line && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return line;
}

int LoadConfig(char *file_name, struct conf_var *vlist, int size)
{
	char buffer[MAX_LINE_LEN];
	int i, number = 0, result = 0;
	FILE *file = fopen(file_name, "r");

	if (!file) {
		fprintf(stderr, "%s not found\n", file_name);
		return -1;
	}
	while (result == 0 && fgets(buffer, sizeof(buffer), file)) {
		char *name, *value;

		number++;
		if (strlen(buffer) == sizeof(buffer) - 1 && !strchr(buffer, '\n')) {
			fprintf(stderr, "%s:%d: longer than %d bytes\n", file_name, number,
				MAX_LINE_LEN - 2);
			result = -1;
			break;
		}
		value = strchr(buffer, '=');
		if (!value || memchr(buffer, '#', (size_t)(value - buffer)))
			continue;
		*value = '\0';
		name = trim(buffer);
		value = trim(value + 1);
		for (i = 0; i < size; i++) {
			if (strcmp(vlist[i].name, name) != 0)
				continue;
			if (strlen(value) > CONF_VALUE_LEN) {
				fprintf(stderr, "%s:%d: value longer than %d bytes\n", file_name,
					number, CONF_VALUE_LEN);
				result = -1;
				break;
			}
			memcpy(vlist[i].value, value, strlen(value) + 1);
		}
	}
	fclose(file);
	return result;
}
