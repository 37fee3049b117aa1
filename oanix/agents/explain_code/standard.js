// What comes with Python, with Node and with a C compiler, so that it is told from what has to be installed.

export const PYTHON = new Set(
  `
  __future__ _thread abc aifc antigravity argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb
  binascii bisect builtins bz2 cProfile calendar cgi cgitb chunk cmath cmd code codecs codeop collections colorsys
  compileall concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes curses dataclasses
  datetime dbm decimal difflib dis distutils doctest email encodings ensurepip enum errno faulthandler fcntl
  filecmp fileinput fnmatch fractions ftplib functools gc genericpath getopt getpass gettext glob graphlib grp
  gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib inspect io ipaddress itertools json
  keyword lib2to3 linecache locale logging lzma mailbox mailcap marshal math mimetypes mmap modulefinder msilib
  msvcrt multiprocessing netrc nis nntplib nt ntpath nturl2path numbers opcode operator optparse os ossaudiodev
  pathlib pdb pickle pickletools pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty
  pwd py_compile pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter
  runpy sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket socketserver
  spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep struct subprocess sunau
  symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios textwrap this threading time timeit
  tkinter token tokenize tomllib trace traceback tracemalloc tty turtle turtledemo types typing unicodedata
  unittest urllib uu uuid venv warnings wave weakref webbrowser winreg winsound wsgiref xdrlib xml xmlrpc zipapp
  zipfile zipimport zlib zoneinfo
  `.split(/\s+/),
);

export const NODE = new Set(
  `
  assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain
  events fs http http2 https inspector module net os path perf_hooks process punycode querystring readline repl
  sea sqlite stream string_decoder sys test timers tls trace_events tty url util v8 vm wasi worker_threads zlib
  `.split(/\s+/),
);

const HEADERS = new Set(
  `
  aio alloca argp arm_neon assert byteswap complex conio cpio crypt ctype direct dirent dlfcn elf emmintrin endian
  err errno error execinfo fcntl features fenv float fmtmsg fnmatch ftw getopt glob grp iconv ifaddrs immintrin
  intrin inttypes io iso646 langinfo libgen libintl limits link locale malloc math memory mntent monetary mqueue
  ndbm netdb nl_types obstack paths poll process pthread pty pwd regex resolv sched search semaphore setjmp shadow
  signal spawn stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdio_ext stdlib stdnoreturn
  string strings sysexits syslog tar termios tgmath threads time ttyent uchar ucontext ulimit unistd utime utmpx
  values wchar wctype windows winsock2 wordexp ws2tcpip x86intrin xlocale xmmintrin
  `.split(/\s+/),
);

// C's and the system's headers, and those of C++, which have no ending.
export const header = (name) => /^(?:sys|arpa|netinet|netinet6|net|netpacket|linux|asm|asm-generic|bits|mach|machine|rpc|scsi|gnu)\//.test(name)
  || /^(?:[a-z_]+|experimental\/[a-z_]+)$/.test(name) || (name.endsWith('.h') && HEADERS.has(name.slice(0, -2)));
