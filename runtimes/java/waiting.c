/*
 * Waits in an unclaimed instance. After the claim, this process is the function's runtime process.
 *
 * LD_PRELOAD loads this library before those of `java`, so its JLI_Launch replaces Java's own. It starts the virtual
 * machine with the arguments of start.sh, creates the client's serializers, reads a `Begin`
 * (operator/wire/src/prestart.rs) from a descriptor that runtime.toml has opened in addition to the standard ones,
 * and calls `main` as Java does. It adds no class to the machine and no frame to the stack.
 *
 * Nothing that runs before the claim may read a variable in Java, because Java copies all variables when the first
 * one is read. runtime.toml names the variables that the machine, the loader and the C library read only once. The
 * claim may bring libraries that the loader would have found at the start. Then this process replaces itself with a
 * fresh one.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <jni.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTOR 100
#define FOLDERS 64
#define CLASS_MODE 1 /* of LauncherHelper: a class names the program */
#define CLIENT "com/amazonaws/services/lambda/runtime/"

/* The arguments of java, and the signals that were blocked when it started. */
static int count;
static char **words;
static sigset_t blocked;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "a process that waits: %s\n", what);
    _exit(1);
}

static void *resized(void *old, size_t size)
{
    void *new = realloc(old, size);
    if (new == NULL)
        fail("no memory");
    return new;
}

static char *joined(const char *start, const char *end)
{
    char *both = resized(NULL, strlen(start) + strlen(end) + 1);
    return strcat(strcpy(both, start), end);
}

/* ------------------------------------------------------------------ a Begin, in JSON */

struct begin {
    char **command;
    char *folder;
    char **variables; /* NAME=value */
};

static const char *at;

static int skip(char mark)
{
    at += strspn(at, " \t\r\n");
    if (*at != mark)
        return 0;
    at++;
    return 1;
}

static void take(char mark)
{
    if (!skip(mark))
        fail("what it is told is no Begin");
}

static char escaped(void)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name = *at == 0 ? NULL : strchr(names, *at);
    char digits[5] = {0};
    if (name != NULL) {
        at++;
        return values[name - names];
    }
    /* The supervisor escapes only other control characters as \u. */
    if (*at++ != 'u')
        fail("what it is told has an odd character");
    strncpy(digits, at, 4);
    char *end;
    long code = strtol(digits, &end, 16);
    if (end != digits + 4 || code <= 0 || code >= ' ')
        fail("what it is told has an odd character");
    at += 4;
    return (char)code;
}

static char *text(void)
{
    take('"');
    char *whole = resized(NULL, strlen(at) + 1), *to = whole;
    while (*at != '"') {
        if (*at == 0)
            fail("what it is told has no end");
        char next = *at++;
        *to++ = next == '\\' ? escaped() : next;
    }
    at++;
    *to = 0;
    return whole;
}

static char *variable(void)
{
    take('[');
    char *name = text();
    take(',');
    char *value = text();
    take(']');
    return joined(joined(name, "="), value);
}

/* A NULL ends the list. */
static char **list(char *(*item)(void))
{
    size_t length = 0;
    char **items = resized(NULL, sizeof *items);
    take('[');
    while (!skip(']')) {
        if (length > 0)
            take(',');
        items = resized(items, (length + 2) * sizeof *items);
        items[length++] = item();
    }
    items[length] = NULL;
    return items;
}

static struct begin parsed(const char *json)
{
    struct begin begin = {0};
    at = json;
    take('{');
    do {
        char *name = text();
        take(':');
        if (strcmp(name, "command") == 0)
            begin.command = list(text);
        else if (strcmp(name, "taskRoot") == 0)
            begin.folder = text();
        else if (strcmp(name, "environment") == 0)
            begin.variables = list(variable);
        else
            fail("what it is told has an unknown field");
    } while (skip(','));
    take('}');
    if (begin.command == NULL || begin.folder == NULL || begin.variables == NULL)
        fail("what it is told lacks a field");
    return begin;
}

static char *told(void)
{
    char *all = NULL;
    size_t size = 0;
    ssize_t part = 1;
    while (part != 0) {
        all = resized(all, size + PIPE_BUF + 1);
        part = read(DESCRIPTOR, all + size, PIPE_BUF);
        if (part < 0 && errno != EINTR)
            fail(strerror(errno));
        size += part < 0 ? 0 : (size_t)part;
    }
    close(DESCRIPTOR);
    all[size] = 0;
    return all;
}

/* ------------------------------------------------------------------------------------------ the loader */

struct folder {
    char *path;
    int is_there;
    struct timespec changed;
};

/* The folders of LD_LIBRARY_PATH. An entry without a path ends the list. */
static struct folder folders[FOLDERS + 1];

static void note_folders(void)
{
    const char *path = getenv("LD_LIBRARY_PATH");
    char *rest = joined(path == NULL ? "" : path, ""), *one;
    for (int i = 0; i < FOLDERS && (one = strsep(&rest, ":")) != NULL; i++) {
        struct stat found;
        folders[i].path = one;
        folders[i].is_there = stat(one, &found) == 0;
        if (folders[i].is_there)
            folders[i].changed = found.st_mtim;
    }
}

/* Whether a fresh process would load a library from the folder. In this process the loader never looks again for a
   folder that was absent, or for a library that it has loaded. */
static int matters(const struct folder *folder)
{
    struct stat found;
    if (stat(folder->path, &found) != 0)
        return 0;
    if (folder->is_there && memcmp(&found.st_mtim, &folder->changed, sizeof found.st_mtim) == 0)
        return 0;
    DIR *open = opendir(folder->path);
    int does = 0;
    for (struct dirent *entry; open != NULL && !does && (entry = readdir(open)) != NULL;) {
        const char *name = entry->d_name;
        int is_missed = !folder->is_there || dlopen(name, RTLD_LAZY | RTLD_NOLOAD) != NULL;
        does = strcmp(name, "glibc-hwcaps") == 0 || (strstr(name, ".so") != NULL && is_missed);
    }
    if (open != NULL)
        closedir(open);
    return does;
}

static int libraries_came(void)
{
    for (const struct folder *folder = folders; folder->path != NULL; folder++)
        if (*folder->path != 0 && matters(folder))
            return 1;
    return 0;
}

/* ----------------------------------------------------------------------------------------- the machine */

/* Returns the value of a call into the machine. Ends the process if the call has thrown. */
static void *checked(JNIEnv *env, const void *value)
{
    if ((*env)->ExceptionCheck(env)) {
        (*env)->ExceptionDescribe(env);
        fail("the client is not as it was");
    }
    return (void *)value;
}

static jclass class(JNIEnv *env, const char *name)
{
    return checked(env, (*env)->FindClass(env, name));
}

static jmethodID function(JNIEnv *env, jclass of, const char *name, const char *type)
{
    return checked(env, (*env)->GetStaticMethodID(env, of, name, type));
}

/* Does the part of the client's start that takes longest and is the same for every function. */
static void warm_up(JNIEnv *env)
{
    static const char *const types[] = {"java/util/Map", "java/lang/Object", "java/lang/String"};
    static const char name[] = CLIENT "serialization/factories/JacksonFactory";
    jclass factories = class(env, name);
    jmethodID instance = function(env, factories, "getInstance", joined(joined("()L", name), ";"));
    jobject factory = checked(env, (*env)->CallStaticObjectMethod(env, factories, instance));
    const char *type = "(Ljava/lang/Class;)L" CLIENT "serialization/PojoSerializer;";
    jmethodID serializer = checked(env, (*env)->GetMethodID(env, factories, "getSerializer", type));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        checked(env, (*env)->CallObjectMethod(env, factory, serializer, class(env, types[i])));
    class(env, "java/security/Security");
}

static char *property(const char *name, const char *value)
{
    return joined(joined(joined("-D", name), "="), value);
}

/* Returns a symbol of Java's libjvm.so, whose path is relative to the program's. */
static void *from_java(const char *name)
{
    char path[PATH_MAX + sizeof "/lib/server/libjvm.so"];
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length < 0)
        fail("java is nowhere");
    path[length] = 0;
    for (int i = 0; i < 2; i++)
        *strrchr(path, '/') = 0;
    void *library = dlopen(strcat(path, "/lib/server/libjvm.so"), RTLD_NOW | RTLD_GLOBAL);
    void *found = library == NULL ? NULL : dlsym(library, name);
    if (found == NULL)
        fail(dlerror());
    return found;
}

/* Creates the machine as Java's own launcher does, and sets `main` to the index of the class. */
static JNIEnv *machine(JavaVM **vm, int *main)
{
    typedef jint create_function(JavaVM **, void **, void *);
    create_function *create = (create_function *)from_java("JNI_CreateJavaVM");
    size_t size = ((size_t)count + 2) * sizeof(JavaVMOption);
    JavaVMOption *options = memset(resized(NULL, size), 0, size);
    JavaVMInitArgs arguments = {.version = JNI_VERSION_1_2, .options = options};
    for (*main = 1; *main < count && words[*main][0] == '-'; ++*main) {
        int is_path = strcmp(words[*main], "-classpath") == 0;
        char *option = is_path ? property("java.class.path", words[++*main]) : words[*main];
        options[arguments.nOptions++].optionString = option;
    }
    if (*main + 2 != count)
        fail("start.sh names other arguments than a class and a handler");
    options[arguments.nOptions++].optionString = property("sun.java.command", words[*main]);
    options[arguments.nOptions++].optionString = "-Dsun.java.launcher=SUN_STANDARD";
    JNIEnv *env;
    if (create(vm, (void **)&env, &arguments) != JNI_OK)
        _exit(1);
    return env;
}

/* Corrects what the machine remembers of its start: the command, and the time zone from the variable TZ. */
static void forget_start(JNIEnv *env, const char *program, const char *handler)
{
    jclass system = class(env, "java/lang/System");
    jmethodID clear = function(env, system, "clearProperty", "(Ljava/lang/String;)Ljava/lang/String;");
    (*env)->CallStaticObjectMethod(env, system, clear, (*env)->NewStringUTF(env, "user.timezone"));
    const char *type = "(Ljava/lang/String;Ljava/lang/String;)Ljava/lang/String;";
    jmethodID set = function(env, system, "setProperty", type);
    jstring name = (*env)->NewStringUTF(env, "sun.java.command");
    jstring command = (*env)->NewStringUTF(env, joined(joined(program, " "), handler));
    (*env)->CallStaticObjectMethod(env, system, set, name, command);
    jclass zones = class(env, "java/util/TimeZone");
    jmethodID set_zone = function(env, zones, "setDefault", "(Ljava/util/TimeZone;)V");
    (*env)->CallStaticVoidMethod(env, zones, set_zone, NULL);
    checked(env, NULL);
}

static void call_main(JNIEnv *env, const char *program, const char *handler)
{
    jclass helper = class(env, "sun/launcher/LauncherHelper");
    jmethodID load = function(env, helper, "checkAndLoadMain", "(ZILjava/lang/String;)Ljava/lang/Class;");
    jstring name = (*env)->NewStringUTF(env, program);
    jclass main = checked(env, (*env)->CallStaticObjectMethod(env, helper, load, JNI_TRUE, CLASS_MODE, name));
    jstring argument = (*env)->NewStringUTF(env, handler);
    jobjectArray arguments = (*env)->NewObjectArray(env, 1, class(env, "java/lang/String"), argument);
    jmethodID entry = function(env, main, "main", "([Ljava/lang/String;)V");
    (*env)->CallStaticVoidMethod(env, main, entry, arguments);
}

static _Noreturn void start(const struct begin *begin)
{
    static const char records[] = "_LAMBDA_TELEMETRY_LOG_FD=";
    /* The machine blocks signals and has open files, which the new process would inherit. */
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    for (char **one = begin->variables; *one != NULL; one++)
        if (strncmp(*one, records, sizeof records - 1) == 0)
            fcntl(atoi(*one + sizeof records - 1), F_SETFD, 0);
    execvpe(begin->command[0], begin->command, begin->variables);
    fprintf(stderr, "%s cannot be started: %s\n", begin->command[0], strerror(errno));
    _exit(127);
}

static void *run(void *unused)
{
    JavaVM *vm;
    int main;
    note_folders();
    JNIEnv *env = machine(&vm, &main);
    warm_up(env);
    char *json = told();
    if (*json == 0)
        _exit(0);
    struct begin begin = parsed(json);
    if (chdir(begin.folder) != 0)
        fail(strerror(errno));
    int length = 0;
    while (begin.command[length] != NULL)
        length++;
    if (length < 2 || strcmp(begin.command[length - 2], words[0]) != 0 || libraries_came())
        start(&begin);
    clearenv();
    for (char **one = begin.variables; *one != NULL; one++)
        putenv(*one);
    forget_start(env, words[main], begin.command[length - 1]);
    call_main(env, words[main], begin.command[length - 1]);
    int status = (*env)->ExceptionCheck(env) ? 1 : 0;
    (*vm)->DetachCurrentThread(vm);
    (*vm)->DestroyJavaVM(vm);
    exit(status);
    return unused;
}

/* The size of the stack of `main`. The machine returns it in a structure that has no other use any more. */
static size_t stack_size(void)
{
    struct {
        jint version;
        char **properties;
        jint check_source, native_stack, java_stack;
        char more[256];
    } told = {.version = JNI_VERSION_1_1};
    jint (*defaults)(void *) = (jint(*)(void *))from_java("JNI_GetDefaultJavaVMInitArgs");
    defaults(&told);
    return told.java_stack > 0 ? (size_t)told.java_stack : 1 << 20;
}

/* Replaces Java's own function, whose further arguments are not needed. That one also runs `main` in a new thread. */
int JLI_Launch(int given, char **arguments)
{
    count = given;
    words = arguments;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_size());
    pthread_attr_setguardsize(&attributes, 0);
    if (pthread_create(&thread, &attributes, run, NULL) != 0)
        fail("no thread");
    pthread_join(thread, NULL);
    return 1;
}
