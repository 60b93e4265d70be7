# SPDX-License-Identifier: Apache-2.0
# Copyright the kaiten authors

# KT_CFLAG(variable, flag): append the flag if the compiler takes it without a word.
AC_DEFUN([KT_CFLAG], [
  AC_MSG_CHECKING([whether $CC takes $2])
  kt_saved_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS -Werror $2"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <stddef.h>]], [[]])],
    [AC_MSG_RESULT([yes]); $1="$$1 $2"],
    [AC_MSG_RESULT([no])])
  CFLAGS=$kt_saved_CFLAGS
])

# KT_LDFLAG(variable, flag): the same for the linker.
AC_DEFUN([KT_LDFLAG], [
  AC_MSG_CHECKING([whether the linker takes $2])
  kt_saved_LDFLAGS=$LDFLAGS
  LDFLAGS="$LDFLAGS -Werror $2"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[]], [[]])],
    [AC_MSG_RESULT([yes]); $1="$$1 $2"],
    [AC_MSG_RESULT([no])])
  LDFLAGS=$kt_saved_LDFLAGS
])

# KT_FORTIFY(variable): append the highest -D_FORTIFY_SOURCE that the C library honours.
AC_DEFUN([KT_FORTIFY], [
  AC_MSG_CHECKING([for _FORTIFY_SOURCE])
  kt_saved_CFLAGS=$CFLAGS
  kt_fortify=no
  for kt_level in 3 2; do
    CFLAGS="$kt_saved_CFLAGS -Werror -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$kt_level"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <string.h>
#if __USE_FORTIFY_LEVEL < $kt_level
#error not honoured
#endif]], [[]])],
      [kt_fortify=$kt_level; break])
  done
  CFLAGS=$kt_saved_CFLAGS
  AS_IF([test $kt_fortify != no],
    [$1="$$1 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$kt_fortify"])
  AC_MSG_RESULT([$kt_fortify])
])

# KT_BDB: Berkeley DB 5.x only; from 6 on its licence is another one.
AC_DEFUN([KT_BDB], [
  BDB_LIBS=
  AC_CHECK_HEADER([db.h], [], [AC_MSG_ERROR(
    [db.h is missing: install libdb5.3-dev, or leave the plugin out with --without-bdb])])
  AC_CHECK_LIB([db-5.3], [db_env_create], [BDB_LIBS=-ldb-5.3],
    [AC_CHECK_LIB([db], [db_env_create], [BDB_LIBS=-ldb], [AC_MSG_ERROR(
      [libdb is missing: install libdb5.3-dev, or leave the plugin out with --without-bdb])])])
  AC_MSG_CHECKING([that Berkeley DB is 5.x])
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <db.h>
#if DB_VERSION_MAJOR != 5
#error not 5
#endif]], [[]])],
    [AC_MSG_RESULT([yes])],
    [AC_MSG_RESULT([no])
     AC_MSG_ERROR([storage-bdb is for Berkeley DB 5.x; see --without-bdb])])
  AC_SUBST([BDB_LIBS])
])

# KT_PYTHON: the first Python 3 that has what the black-box suite imports.
AC_DEFUN([KT_PYTHON], [
  AC_ARG_VAR([PYTHON], [Python 3 with msgpack, pytest and xdist, for the tests])
  AC_MSG_CHECKING([for a Python with msgpack, pytest and xdist])
  kt_python=no
  for kt_candidate in "$PYTHON" /usr/bin/python3 python3; do
    test -n "$kt_candidate" || continue
    AS_IF(["$kt_candidate" -c 'import msgpack, pytest, xdist' >/dev/null 2>&1],
      [kt_python=$kt_candidate; break])
  done
  AC_MSG_RESULT([$kt_python])
  AS_IF([test "$kt_python" != no], [PYTHON=$kt_python], [PYTHON=])
])

# KT_LIBEVENT_PATCHED: a word of warning about Debian's libevent before its security update.
AC_DEFUN([KT_LIBEVENT_PATCHED], [
  kt_libevent=`dpkg-query -W -f '${Version}' libevent-core-2.1-7 2>/dev/null`
  AS_IF([test -n "$kt_libevent" &&
         dpkg --compare-versions "$kt_libevent" lt 2.1.12-stable-8+deb12u1],
    [AC_MSG_WARN([libevent $kt_libevent lacks security fixes that Debian has since published])])
])
