# The Debian package passes lintian, and serves PHP until it is removed.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# It is installed for real, but not on this machine: in namespaces of its own,
# whose root is this machine's with a temporary file system laid over it.
# There a2enmod, apt-get and the services see a Debian that is theirs alone.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");
my $NAME = 'libapache2-mod-fastcgi-handler';
my $CONF = 'fastcgi-handler-php-fpm';

$ENV{PATH} .= ':/usr/sbin:/sbin';
$ENV{LC_ALL} = 'C';
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES LTFLAGS DESTDIR APXS
               CFLAGS CPPFLAGS LDFLAGS V), grep { /^(?:DEB|DH)_/ } keys %ENV};
plan skip_all => 'not Debian'
    if (Private::run('dpkg-buildpackage', '--version'))[0] != 0;

# A copy of this folder without what was built in it.
my $dir = Private::temp_dir('package');
my ($status, $output) = Private::run('sh', '-c', <<'EOC', $TOP, "$dir");
tar -C "$0" -c --exclude-vcs --exclude=./build --exclude=.libs \
    --exclude='*.o' --exclude='*.lo' --exclude='*.slo' --exclude='*.la' \
    --exclude='*.so' . | tar -C "$1" -x
EOC
is($status, 0, 'a copy of the sources') or diag $output;

sub files_below {
    my (@dirs) = @_;
    my (undef, $found) = Private::run('find', @dirs, '!', '-type', 'd');
    return join "\n", sort split /\n/, $found;
}

# Of the control file, or of a .changes file.
sub field {
    my ($name, $text) = @_;
    return $text =~ /^$name: (.*)$/m ? $1 : '';
}

my ($deb, $changes);

subtest 'make deb' => sub {
    my $before = files_below("$dir");
    ($status, $output) = Private::run('make', '-C', "$dir", 'deb');
    is($status, 0, 'builds') or diag $output;
    ($deb) = glob "$dir/build/${NAME}_*.deb";
    ($changes) = glob "$dir/build/${NAME}_*.changes";
    ok($deb && $changes, 'the package is in build') or return;
    like($output, qr{^build/\Q@{[ $deb =~ m{([^/]+)$} ]}\E$}m,
         'and its name is shown');
    my @after = grep { !m{^\Q$dir\E/build/} } split /\n/,
        files_below("$dir");
    is(join("\n", @after), $before, 'nothing is left beside the sources');

    my $log = Private::slurp("$dir/build/deb.log");
    unlike($log, qr/\.[ch]:\d+:.*(?:warning|error):/, 'without a warning');
    like($log, qr/-ffile-prefix-map=\S+ .*-c mod_fastcgi_handler\.c/,
         'compiled with the flags of dpkg-buildflags');
};

BAIL_OUT('no package') if !$deb || !$changes;

subtest 'lintian' => sub {
    my $own = Private::temp_dir('lintian');     # it does not tidy up
    local $ENV{TMPDIR} = "$own";
    ($status, $output) = Private::run('lintian', '--allow-root', '--fail-on',
                                      'error,warning', $changes);
    is($status, 0, 'is content');
    is($output, '', 'and says nothing');
};

subtest 'what is in it' => sub {
    my (undef, $control) = Private::run('dpkg-deb', '-f', $deb);
    is(field('Package', $control), $NAME, 'its name');
    like(field('Depends', $control), qr/\bapache2-api-\d+/,
         'it depends on the API of httpd');
    my $root = "$dir/build/root";
    is((Private::run('dpkg-deb', '-x', $deb, $root))[0], 0, 'unpacked');
    my $doc = "$root/usr/share/doc/$NAME";
    my @docs = map { s{^\Q$dir\E/}{}r } glob "$dir/docs/*";
    my $files = files_below($root) =~ s/\.gz$//mgr;
    is(join("\n", sort split /\n/, $files), join("\n", sort
        "$root/etc/apache2/conf-available/$CONF.conf",
        map({ "$root/etc/apache2/mods-available/fastcgi_handler.$_" }
            qw(conf load)),
        "$root/etc/apache2/mods-available/proxy_fastcgi.load",
        map({ "$root/usr/lib/apache2/modules/mod_$_.so" }
            qw(fastcgi_handler proxy_fastcgi)),
        "$root/usr/share/lintian/overrides/$NAME",
        map { "$doc/$_" } qw(NOTICE README.rst changelog changelog.Debian
                             copyright), @docs),
       'its files');
    is(Private::slurp("$root/etc/apache2/mods-available/fastcgi_handler.load"),
       'LoadModule fastcgi_handler_module '
           . "/usr/lib/apache2/modules/mod_fastcgi_handler.so\n",
       'the line that loads the module');
    is((Private::run('gzip', '-dc', "$doc/changelog.gz"))[1],
       Private::slurp("$TOP/CHANGES"), 'CHANGES is the changelog');
    my (undef, $linked) = Private::run('readelf', '-Wld',
        "$root/usr/lib/apache2/modules/mod_fastcgi_handler.so");
    like($linked, qr/BIND_NOW/, 'linked with bindnow');
    like($linked, qr/GNU_RELRO/, 'and relro');
};

# The root of the machine as the test sees it, and the first process there.
my ($root, $init);

# Makes the machine; its processes and mounts end with the process that is
# returned, and its folder with the object.
sub start_machine {
    my $at = Private::temp_dir('machine');
    my $log = "$at/log";
    # unshare does not listen to TERM.
    my $pid = Private::spawn(log => $log, exec => [
        qw(setpriv --pdeathsig KILL),
        qw(unshare --mount --net --pid --ipc --uts --fork --kill-child),
        'sh', '-c', <<'EOC', "$at"]);
set -e
mkdir "$0/over"
mount -t tmpfs none "$0/over"
cd "$0/over"
mkdir upper work root
mount -t overlay none -o lowerdir=/,upperdir=upper,workdir=work root
mount -t proc none root/proc
for name in dev run tmp; do
    mount -t tmpfs none root/$name
done
for name in null zero full random urandom; do
    touch root/dev/$name
    mount --bind /dev/$name root/dev/$name
done
ln -s /proc/self/fd root/dev/fd
mkdir root/dev/shm root/run/lock
chmod 1777 root/tmp root/dev/shm root/run/lock
ip link set lo up
exec chroot root perl -e '$SIG{CHLD} = "IGNORE"; $| = 1; print "ready\n";
    sleep while 1'
EOC
    my $ready = Private::wait_until(10, sub {
        Private::slurp($log) =~ /^ready$/m || !Private::alive($pid) });
    ($init) = (Private::run('pgrep', '-P', $pid))[1] =~ /(\d+)/;
    ok($ready && $init, 'a machine to install it on')
        or diag Private::slurp($log);
    $root = "/proc/$init/root" if $init;
    return ($pid, $at);
}

# Runs a command there: (exit status, output).
sub inside {
    my (@command) = @_;
    return Private::run(
        'timeout', '120', 'nsenter', '--target', $init,
        qw(--mount --net --pid --ipc --uts --root --wd env -i
           PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root
           DEBIAN_FRONTEND=noninteractive), @command);
}

# The same for commands that must succeed; returns their output.
sub succeeds {
    my ($why, @command) = @_;
    my ($result, $said) = inside(@command);
    is($result, 0, $why) or diag "@command:\n$said";
    return $said;
}

sub get {
    my ($url, @options) = @_;
    my (undef, $said) = inside(qw(curl -sS -m 20 --path-as-is -w),
                               '|%{http_code}', @options,
                               "http://localhost$url");
    my ($body, $code) = $said =~ /^(.*)\|(\d+)$/s ? ($1, $2) : ($said, 0);
    return { body => $body, status => $code };
}

# All files of httpd below a folder: configuration, state, modules.
sub files_of_httpd {
    my ($below) = @_;
    return files_below(map { "$below/$_" } qw(etc/apache2 var/lib/apache2
                                              usr/lib/apache2));
}

sub is_on { return -e "$root/etc/apache2/$_[0]" }

my $MODULE_ON = 'mods-enabled/fastcgi_handler.load';
my $FACTOR_ON = 'mods-enabled/fastcgi_handler.conf';
my $CONF_ON = "conf-enabled/$CONF.conf";

sub restart {
    succeeds('configtest', qw(apache2ctl configtest));
    succeeds('httpd is restarted', qw(service apache2 restart));
    return;
}

sub serves_php {
    my $said = get('/show.php');
    is("$said->{status} $said->{body}", '200 fpm-fcgi  ', 'a PHP file')
        or diag((inside('tail', '/var/log/apache2/error.log'))[1]);
    is(get('/show.php/more/of%20it')->{body}, 'fpm-fcgi /more/of it ',
       'PATH_INFO');
    is(get('/folder/')->{body}, 'the index', 'an index.php');
    is(get('/show.phar')->{body}, 'fpm-fcgi  ', 'a .phar file');
    is(get('/show.php', '-u', 'me:secret')->{body}, 'fpm-fcgi  me',
       'the name of who asks');
    is(get('/plain.txt')->{body}, "plain\n", 'a static file');
    is(get($_)->{status}, 403, "not $_")
        for '/.php', '/.phtml', '/folder/.phar', '/show.phps';
    is(get('/missing.php')->{status}, 404, 'a PHP file that is missing');
    return;
}

# FCGI36 is said where nobody chose how many requests can wait.
sub waits_for_many {
    my $log = "$root/var/log/apache2/error.log";
    return if (inside(qw(apache2 -v)))[1] !~ m{Apache/2\.4\.(\d+)}
        || $1 < 63;
    unlike(Private::slurp($log), qr/FCGI36/, 'it is chosen how many can wait');
    my $file = "$root/etc/apache2/mods-enabled/mpm_event.conf";
    my $text = Private::slurp($file);
    Private::spew($file, "${text}AsyncRequestWorkerFactor 3\n");
    restart();
    unlike(Private::slurp($log), qr/FCGI36/, 'also in mpm_event.conf');
    Private::spew($file, $text);
    return;
}

sub serves_no_php {
    is(get('/plain.txt')->{body}, "plain\n", 'httpd serves static files');
    unlike(get('/show.php')->{body}, qr/^fpm-fcgi/, 'and no PHP');
    return;
}

# The second module serves the php-fpm package's own configuration.
sub serves_for_mod_proxy {
    my ($php, @apt) = @_;
    my $debfile = pop @apt;
    my $on = 'mods-enabled/proxy_fastcgi.load';
    ok(!is_on($on), 'the module for mod_proxy is off');
    succeeds('a2disconf', 'a2disconf', $CONF);
    succeeds('a2enmod', qw(a2enmod proxy_fcgi proxy_fastcgi));
    succeeds('a2enconf', 'a2enconf', $php);
    restart();
    is(get('/show.php/more')->{body}, 'fpm-fcgi /more ', 'it serves PHP');
    like(Private::slurp("$root/var/log/apache2/error.log"),
         qr{FCGI26: backend fcgi:/run/php/}, 'by this engine');
    succeeds('apt-get remove', @apt, 'remove', $NAME);
    ok(!is_on($on), 'a removal switches it off');
    succeeds('configtest', qw(apache2ctl configtest));
    succeeds('apt-get install', @apt, 'install', $debfile);
    ok(is_on($on), 'and it is on again');
    succeeds('a2disconf', qw(a2disconf -p), $php);
    succeeds('a2dismod', qw(a2dismod proxy_fastcgi));
    succeeds('a2dismod', qw(a2dismod -p proxy_fcgi proxy));
    succeeds('a2enconf', 'a2enconf', $CONF);
    restart();
    return;
}

my $system = files_of_httpd('');

subtest 'installed, used, removed, purged' => sub {
    plan skip_all => 'needs root' if $> != 0;
    my ($machine, $at) = start_machine();
    return if !$init;

    # Whatever this machine's own httpd has, here it is as newly installed,
    # with no word of PHP or index.php.
    inside('dpkg', '--purge', $NAME);
    unlink glob("$root/etc/apache2/sites-enabled/*"),
        glob("$root/etc/apache2/{conf,mods}-enabled/php*"),
        glob("$root/etc/apache2/{conf,mods}-{available,enabled}/*fastcgi*"),
        glob("$root/var/lib/apache2/{conf,module}/*/*fastcgi*"), # a2dismod's
        glob("$root/var/log/apache2/*"),
        "$root/etc/apache2/mods-enabled/dir.conf",
        "$root/usr/lib/apache2/modules/mod_fastcgi_handler.so";
    Private::spew("$root/etc/apache2/ports.conf", "Listen 80\n");
    # Packages may restart services.
    Private::spew("$root/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 104\n",
                  0755);
    succeeds('the default site', qw(a2ensite -q 000-default));
    my $show = '<?php echo PHP_SAPI, " ", $_SERVER["PATH_INFO"] ?? "", " ", '
        . '$_SERVER["PHP_AUTH_USER"] ?? "";';
    my $www = "$root/var/www/html";
    Private::spew("$www/$_", $show)
        for qw(show.php show.phar show.phps .php .phtml folder/.phar);
    Private::spew("$www/folder/index.php", 'the index');
    Private::spew("$www/plain.txt", "plain\n");
    Private::spew("$root/tmp/$NAME.deb", Private::slurp($deb));
    # All that it depends on is there, and apt is soon done with no lists.
    unlink glob("$root/var/lib/apt/lists/*"),
        glob("$root/var/cache/apt/*pkgcache.bin");
    my @apt = qw(apt-get -q --yes -o Dpkg::Use-Pty=0);
    my $debfile = "/tmp/$NAME.deb";

    # As its unit does where there is systemd.
    my ($php) = map { m{/(php[\d.]+-fpm)$} } glob '/etc/init.d/php*-fpm';
    my ($helper) = Private::slurp("/lib/systemd/system/$php.service")
        =~ /^ExecStartPost=-?(.*install.*)$/m;
    succeeds('PHP-FPM is started', 'sh', '-c',
        "install -d -o www-data -g www-data /run/php &&"
        . " service $php start && $helper && test -S /run/php/php-fpm.sock");
    succeeds('httpd is started', qw(service apache2 start));
    my $before = files_of_httpd($root);
    serves_no_php();

    succeeds('apt-get install', @apt, 'install', $debfile);
    ok(is_on($MODULE_ON), 'the module is on');
    like(succeeds('httpd has loaded it', 'sh', '-c',
                  'cat /proc/$(cat /run/apache2/apache2.pid)/maps'),
         qr/mod_fastcgi_handler\.so/, 'without another word');
    ok(is_on($FACTOR_ON), 'and so is its configuration');
    is(Private::slurp("$root/etc/apache2/mods-enabled/mpm_event.conf")
           =~ /AsyncRequestWorkerFactor/, '', 'which nothing contradicts');
    like(succeeds('a2enmod', qw(a2enmod fastcgi_handler)),
         qr/already enabled/, 'a2enmod has nothing to do');
    ok(!is_on($CONF_ON), 'the configuration for PHP is not on');
    serves_no_php();

    succeeds('a2enconf', 'a2enconf', $CONF);
    restart();
    serves_php();
    succeeds('a graceful restart', qw(apache2ctl graceful));
    serves_php();
    waits_for_many();

    # The administrator's choices outlive new versions.
    my $file = "$root/etc/apache2/conf-available/$CONF.conf";
    my $edited = Private::slurp($file) =~ s/#(?=FcgiBackend )//r;
    isnt($edited, Private::slurp($file), 'FcgiBackend is switched on, too');
    Private::spew($file, $edited);
    restart();
    serves_php();
    succeeds('a2dismod', qw(a2dismod fastcgi_handler));
    restart();
    serves_no_php();
    succeeds('installed again', @apt, 'install', '--reinstall', $debfile);
    ok(!is_on($MODULE_ON), 'a module that is off stays off');
    ok(is_on($CONF_ON), 'and a configuration that is on stays on');
    is(Private::slurp($file), $edited, 'with what was edited');
    succeeds('a2disconf', 'a2disconf', $CONF);
    isnt((inside('a2enconf', $CONF))[0], 0,
         'which cannot be switched on without the module');
    succeeds('a2enmod', qw(a2enmod fastcgi_handler));
    succeeds('installed again', 'dpkg', '-i', $debfile);
    ok(is_on($MODULE_ON), 'a module that is on stays on');
    ok(!is_on($CONF_ON), 'and a configuration that is off stays off');
    succeeds('a2enconf', 'a2enconf', $CONF);

    serves_for_mod_proxy($php, @apt, $debfile);

    # Removed while it is in use, and back again.
    succeeds('apt-get remove', @apt, 'remove', $NAME);
    ok(!is_on($MODULE_ON) && !is_on($CONF_ON), 'both are off');
    succeeds('configtest', qw(apache2ctl configtest));
    serves_no_php();
    succeeds('apt-get install', @apt, 'install', $debfile);
    ok(is_on($MODULE_ON) && is_on($CONF_ON), 'both are on again');
    serves_php();
    succeeds('a2disconf', 'a2disconf', $CONF);
    succeeds('apt-get remove', @apt, 'remove', $NAME);
    succeeds('apt-get install', @apt, 'install', $debfile);
    ok(is_on($MODULE_ON) && !is_on($CONF_ON),
       'but not what the administrator had switched off');
    succeeds('a2enconf', 'a2enconf', $CONF);

    succeeds('apt-get purge', @apt, 'purge', $NAME);
    is(files_of_httpd($root), $before, 'httpd is as it was');
    is((inside(qw(find /etc /usr /var/lib -xdev -name),
               '*fastcgi?handler*'))[1], '', 'no file is left');
    serves_no_php();
    restart();
    serves_no_php();
    unlike(Private::slurp("$root/var/log/apache2/error.log"),
           qr/exit signal|:(?:crit|alert|emerg)\]|FCGI(?!26)\d/,
           'httpd had no trouble');

    Private::end($machine, 'KILL');
    ok(Private::wait_until(10, sub { !-e $root }), 'the machine is gone');
};

is(files_of_httpd(''), $system, 'nothing of the system was touched');

done_testing;
